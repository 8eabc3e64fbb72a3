"""Bearer tokens of those who come by TCP: what each may, and which of them was presented.

The file holds hashes alone, so that who reads it can call nothing. They are plain SHA-256: a token is 32 random bytes,
which no speed of guessing finds; a slow hash protects what people make up, and would cost every call some milliseconds.
A new file counts for the next call; one that can't be used changes nothing and is told.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import fnmatch
import hashlib
import hmac
import logging
import os
import pathlib
import re
import secrets
import stat
import tomllib
from collections.abc import Iterable, Iterator
from typing import Any

import pydantic

from vllmd.api.access import Role
from vllmd.errors import Denied, Exhausted, NotPossible

PREFIX = "vllmd_"
"""What tokens begin with, so that programs that look for secrets find them."""
_HASH = "sha256:"
_BYTES = 32
_LONGEST = 1 << 20

_log = logging.getLogger("vllmd")


class Entry(pydantic.BaseModel):
    """What the file says of one token, beside its name."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)

    hash: str = pydantic.Field(pattern=rf"^{_HASH}[0-9a-f]{{64}}$")
    role: str = pydantic.Field(default="user", pattern="^(user|operator)$")
    max_requests: int | None = pydantic.Field(default=None, ge=1)
    models: list[str] | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """Who has it is `name`, and may this."""

    name: str
    digest: str = dataclasses.field(repr=False)
    role: Role
    max_requests: int | None = None
    """How many requests may run at once, of those that engines work at; a batch is one."""
    models: tuple[str, ...] | None = None
    """Patterns of the models that may be loaded and used; all if it is `None`."""

    def check_model(self, model: str) -> None:
        """Check that a model may be used; raises `Denied`.

        A path that climbs is none of those that a pattern means, wherever it ends.
        """
        if self.models is None:
            return
        if ".." in model.split("/") or not any(fnmatch.fnmatchcase(model, pattern) for pattern in self.models):
            message = f"The token {self.name} is not for {model}: it is for {', '.join(self.models) or 'no model'}."
            raise Denied("MODEL_NOT_ALLOWED", message, token=self.name, model=model)


def new() -> str:
    """Make a token."""
    return PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(_BYTES)).decode().rstrip("=")


def digest(token: str) -> str:
    """Tell what the file says in the place of a token."""
    return _HASH + hashlib.sha256(token.encode()).hexdigest()


def line(name: str, token: str, role: str, max_requests: int | None = None, models: tuple[str, ...] = ()) -> str:
    """Write the line of the file."""
    parts = [f'hash = "{digest(token)}"', f'role = "{role}"']
    parts += [f"max_requests = {max_requests}"] if max_requests is not None else []
    parts += [f"models = [{', '.join(_quoted(model) for model in models)}]"] if models else []
    return f"{name} = {{ {', '.join(parts)} }}"


def is_name(name: str) -> bool:
    """Tell whether a token may be called so: what stands in a log is short and plain."""
    return re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) is not None


def parse(text: str) -> tuple[Token, ...]:
    """Read what the file says.

    Raises:
        ValueError: with what is wrong and where, and nothing of any hash.
    """
    return tuple(_token(name, entry) for name, entry in tomllib.loads(text).items())


def _token(name: str, entry: Any) -> Token:
    if not is_name(name):
        raise ValueError(f"{name!r} is no name of a token: letters, digits, - and _, at most 64")
    try:
        read = Entry.model_validate(entry)
    except pydantic.ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise ValueError(f"{'.'.join([name, *map(str, first['loc'])])}: {first['msg']}") from None
    models = None if read.models is None else tuple(read.models)
    return Token(name=name, digest=read.hash, role=Role.named(read.role), max_requests=read.max_requests, models=models)


def read(path: pathlib.Path) -> tuple[Token, ...]:
    """Read the file.

    Raises:
        NotPossible: it can't be read, is no plain file, or others could write to it.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("it is no file")
            if status.st_mode & 0o022:
                raise ValueError("others than its owner can write to it")
            if status.st_uid not in (0, os.geteuid()):
                raise ValueError(f"it belongs to uid {status.st_uid}, who is neither root nor the daemon's user")
            content = file.read(_LONGEST + 1)
        if len(content) > _LONGEST:  # half of it may say less of a token than all of it, such as no limit
            raise ValueError(f"it has more than {_LONGEST} bytes")
        return parse(content.decode())
    except (OSError, ValueError, RecursionError) as error:  # the second also TOML's and UTF-8's
        message = f"The tokens of {path} can't be used: {error}."
        raise NotPossible("TOKENS_UNUSABLE", message, file=path) from error


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe would have every call wait for a writer


class Tokens:
    """The tokens in force, which follow the file, and how many requests each has.

    Raises:
        NotPossible: they can't be used from the start.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._seen = self._look()
        self._tokens = read(path)
        self._running: dict[str, int] = {}

    def find(self, presented: str) -> Token | None:
        """Find the token that was presented, in a time that tells nothing of any."""
        self._follow()
        sought = digest(presented)
        found = [token for token in self._tokens if hmac.compare_digest(token.digest, sought)]
        return found[0] if found else None

    @contextlib.contextmanager
    def running(self, token: Token) -> Iterator[None]:
        """Count a request while it runs; raises `Exhausted` if there are as many as may be."""
        running = self._running.get(token.name, 0)
        if token.max_requests is not None and running >= token.max_requests:
            message = f"The token {token.name} has {running} requests running, as many as it may."
            raise Exhausted("TOO_MANY_REQUESTS", message, token=token.name, running=running, limit=token.max_requests)
        self._running[token.name] = running + 1
        try:
            yield
        finally:
            self._running[token.name] -= 1
            if not self._running[token.name]:
                del self._running[token.name]

    def _follow(self) -> None:
        now = self._look()
        if now == self._seen:
            return
        self._seen = now
        try:
            self._tokens = read(self._path)
        except NotPossible as error:
            _log.error("the tokens in force stay so: %s", error.message)
        else:
            _log.info("%d tokens are in force from now on", len(self._tokens))

    def _look(self) -> tuple[int, int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None  # in the middle of a change, or gone: to read it says which
        return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size  # the first time can be set back


def presented(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    """Take the token out of what a call came with; `None` if there is none."""
    for name, value in metadata:
        scheme, _, token = value.partition(" ") if name == "authorization" and isinstance(value, str) else ("", "", "")
        if scheme.lower() == "bearer" and token.strip():
            return token.strip()
    return None


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
