"""By which sockets the daemon is reached, by its settings."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from vllmd.api import tls, tokens
from vllmd.api.access import Role
from vllmd.api.doors import Door, group_id
from vllmd.api.port import Port, check_listen
from vllmd.api.tls import Certificates
from vllmd.api.tokens import Tokens
from vllmd.config import Settings
from vllmd.errors import NotPossible

ADMIN = "admin.sock"
_GROUP_MODE = 0o660
_OWN_MODE = 0o600
_WAY_THROUGH = 0o011


def doors(settings: Settings) -> tuple[Door, Door]:
    """Tell which sockets there are: first that of operators, so that who sees the other sees both."""
    operators = Door(
        path=settings.runtime_dir / ADMIN,
        role=Role.OPERATOR,
        mode=_OWN_MODE if settings.admin_group is None else _GROUP_MODE,
        group=settings.admin_group,
    )
    users = Door(
        path=settings.socket,
        role=Role.USER,
        mode=settings.socket_mode,
        group=settings.socket_group,
        remedy=f"Operators connect to {operators.path}, which is open to {whose(settings)}.",
    )
    return operators, users


def whose(settings: Settings) -> str:
    """Say who is an operator."""
    own = "the daemon's own user"
    return own if settings.admin_group is None else f"{own} and the group {settings.admin_group}"


def let_in(settings: Settings) -> None:
    """Let groups through to the sockets, where a setting names any; all else in the directory is closed by itself.

    Raises:
        OSError: the directory is not ours to change.
    """
    if settings.socket_group is not None or settings.admin_group is not None:
        mode = stat.S_IMODE(settings.runtime_dir.stat().st_mode)
        settings.runtime_dir.chmod(mode | _WAY_THROUGH)


def problems(settings: Settings) -> list[tuple[str, NotPossible]]:
    """List what speaks against it, each with the setting that it is about."""
    found: list[tuple[str, NotPossible]] = []
    for name in ("socket_group", "admin_group"):
        group: str | None = getattr(settings, name)
        try:
            if group is not None:
                group_id(group)
        except NotPossible as refused:
            found.append((name, refused))
    if settings.socket == settings.runtime_dir / ADMIN:
        message = f"{settings.socket} is the operators' socket: clients need another."
        found.append(("socket", NotPossible("SOCKET_TAKEN", message, socket=settings.socket)))
    found += _of_tcp(settings)
    return found


def port(settings: Settings) -> Port | None:
    """Tell where TCP is listened on, if it is; raises `NotPossible` if its certificate or tokens can't be used."""
    if settings.listen is None:
        return None
    files = _files(settings)
    return Port(
        settings.listen,
        Certificates(files) if files is not None else None,
        Tokens(settings.token_file) if settings.token_file is not None else None,
    )


def _files(settings: Settings) -> tls.Files | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    return tls.Files(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)


def _known(settings: Settings) -> bool:
    return settings.tls_client_ca is not None or settings.token_file is not None


def _of_tcp(settings: Settings) -> Iterator[tuple[str, NotPossible]]:
    names = ("tls_certificate", "tls_key", "tls_client_ca")
    given = [name for name in names if getattr(settings, name) is not None]
    files = _files(settings)
    if given and files is None:
        missing = next(name for name in names if name not in given)
        message = f"{given[0]} is of no use without {missing}."
        yield given[0], NotPossible("TLS_INCOMPLETE", message, missing=missing)
        return
    if settings.listen is not None:
        try:
            check_listen(settings.listen, tls=files is not None, known=_known(settings))
        except NotPossible as refused:
            yield "listen", refused
    if files is not None:
        try:
            tls.read(files)
        except NotPossible as refused:
            yield "tls_certificate", refused
    if settings.token_file is not None:
        try:
            tokens.read(settings.token_file)
        except NotPossible as refused:
            yield "token_file", refused
