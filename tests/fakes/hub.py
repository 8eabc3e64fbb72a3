"""A hub on loopback that speaks as much of the Hugging Face API as a configuration takes."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator, Mapping

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_of_the_tests"
_INFO = re.compile(r"/api/models/(?P<repository>[^/]+/[^/?]+)(?:/revision/(?P<revision>[^?]+))?(?:\?.*)?")
_FILE = re.compile(r"/(?P<repository>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>[^?]+)")


class Hub:
    """Its repositories, and what was asked for.

    Args:
        repositories: files by name, by repository; one whose name begins with `gated/` gives them to nobody.
        parameters: what it says of the tensors of every repository.
    """

    def __init__(self, repositories: Mapping[str, Mapping[str, bytes]], parameters: Mapping[str, int]) -> None:
        self.repositories = repositories
        self.parameters = parameters
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()
        self.url = ""


@contextlib.contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve it meanwhile."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            hub.tokens.add(self.headers.get("Authorization"))
            match = _INFO.fullmatch(self.path) or _FILE.fullmatch(self.path)
            files = hub.repositories.get(match["repository"]) if match else None
            if match is None or files is None:
                return self.fail(404, "RepoNotFound")
            if match["revision"] not in (None, "main", COMMIT):
                return self.fail(404, "RevisionNotFound")
            name = match.groupdict().get("name")
            if name is None:
                return self.answer(self.info(match["repository"], files))
            if match["repository"].startswith("gated/"):
                return self.fail(403, "GatedRepo")
            return self.answer(files[name]) if name in files else self.fail(404, "EntryNotFound")

        def info(self, repository: str, files: Mapping[str, bytes]) -> bytes:
            siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
            found: dict[str, object] = {"id": repository, "sha": COMMIT, "siblings": siblings}
            if hub.parameters:
                found["safetensors"] = {"parameters": hub.parameters, "total": sum(hub.parameters.values())}
            return json.dumps(found).encode()

        def answer(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def fail(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass  # what was asked for is kept above

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
