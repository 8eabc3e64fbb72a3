"""An OpenAI-compatible server that somebody started by hand, outside of vllmd."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import urllib.error
import urllib.request
from typing import Any

from tests.host.running import cores_of, kill, until
from vllmd.worker.processes import Identity, read_stat

_START_SECONDS = 300.0


class ForeignServer:
    """What `vllm serve` runs, in a session of its own, as from another terminal.

    Args:
        python: the interpreter that has vLLM.
        model: a directory.
        log: where its output goes.
        port: of loopback.
        engine_args: options of `vllm serve`, with underscores.
        environment: added to this process's.
    """

    def __init__(
        self,
        python: str,
        model: str,
        log: pathlib.Path,
        port: int,
        engine_args: dict[str, Any],
        environment: dict[str, str],
    ) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._model = model
        options = [word for name, value in engine_args.items() for word in _option(name, value)]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [python, "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--port", str(port), *options],
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, **environment},
            )
        self.log = log
        self.core: Identity | None = None

    def wait_ready(self) -> None:
        """Wait until it answers."""

        def answers() -> bool:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            return self._get("/health") is not None

        until(answers, "the foreign server", _START_SECONDS)
        (self.core,) = cores_of(self.process.pid)

    @property
    def core_alive(self) -> bool:
        """Whether its EngineCore lives."""
        return self.core is not None and alive(self.core)

    def complete(self) -> str:
        """Have it say something."""
        body = json.dumps({"model": self._model, "prompt": [5] * 16, "max_tokens": 8, "ignore_eos": True})
        answer = self._get("/v1/completions", body.encode())
        assert answer is not None, "the foreign server does not answer"
        return str(json.loads(answer)["choices"][0]["text"])

    def _get(self, path: str, body: bytes | None = None) -> bytes | None:
        request = urllib.request.Request(self._url + path, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return bytes(response.read())
        except (urllib.error.URLError, ConnectionError):
            return None

    def kill(self) -> None:
        """`kill -9` the server, and nothing else of it."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End all of it that is left."""
        core = self.core
        if core is None and self.process.poll() is None:
            core = next(iter(cores_of(self.process.pid)), None)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
        self.kill()
        if core is not None:
            kill(core)


def _option(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    return [flag] if value is True else [flag, str(value)]


def alive(identity: Identity) -> bool:
    """Tell whether this very process lives."""
    stat = read_stat(identity.pid)
    return stat is not None and stat.identity == identity and not stat.dead
