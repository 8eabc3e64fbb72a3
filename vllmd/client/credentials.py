"""Channels: how a client proves who it is, and whom it trusts, by the environment and never by a command line."""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import os
import pathlib
from collections.abc import Mapping

import grpc
import grpc.aio

from vllmd.client.errors import DaemonUnreachable

TLS = "tls://"
"""What an address begins with whose daemon is to be spoken to over TLS."""

OPTIONS: tuple[tuple[str, int], ...] = (
    # A daemon that restarts is back within a second; gRPC's own back-off goes up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # The longest prompt that a model takes is a few MiB; the default of 4 MiB is too near to it.
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    # Details of an error travel in the trailers, log lines included; the default refuses more than 8 KiB.
    ("grpc.max_metadata_size", 64 << 10),
    ("grpc.absolute_max_metadata_size", 128 << 10),
    # The daemon listens on this host: a proxy for the web has no part in it.
    ("grpc.enable_http_proxy", 0),
)

_NARROW = (
    # Of what a reader has yet to read, gRPC takes on a few responses instead of some MiB.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 4096),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """What connections are made with; the paths are of PEM files."""

    ca: str | None = None
    """By whom the daemon's certificate is issued; `None` for whom gRPC trusts."""
    certificate: str | None = None
    key: str | None = None
    token: str | None = dataclasses.field(default=None, repr=False)
    """What calls bring along, where nobody else can read it."""

    def metadata(self, target: str) -> tuple[tuple[str, str], ...]:
        """Tell what calls bring along to a daemon: on the way to another host only what is encrypted."""
        if self.token is None or not (target.startswith((TLS, "unix:")) or _is_loopback(target)):
            return ()
        return (("authorization", f"Bearer {self.token}"),)


def from_environment(environ: Mapping[str, str] = os.environ) -> Credentials:
    """Take `VLLMD_CA`, `VLLMD_CLIENT_CERTIFICATE`, `VLLMD_CLIENT_KEY` and `VLLMD_TOKEN`."""
    names = ("VLLMD_CA", "VLLMD_CLIENT_CERTIFICATE", "VLLMD_CLIENT_KEY", "VLLMD_TOKEN")
    return Credentials(*(environ.get(name) or None for name in names))


def channel(target: str, credentials: Credentials, *, narrow: bool = False) -> grpc.Channel:
    """Make a channel: over TLS if the address begins with `tls://`.

    Args:
        target: the daemon's address.
        credentials: what it is made with.
        narrow: whether it is for a stream of which only the latest counts.

    Raises:
        DaemonUnreachable: a file can't be read.
    """
    if not target.startswith(TLS):
        return grpc.insecure_channel(target, options=_options(narrow))
    return grpc.secure_channel(target.removeprefix(TLS), _of_channel(target, credentials), options=_options(narrow))


def async_channel(target: str, credentials: Credentials, *, narrow: bool = False) -> grpc.aio.Channel:
    """Make one for asyncio; raises as `channel` does, and `RuntimeError` where no loop runs."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        # gRPC would take a loop that nobody runs, and hang.
        raise RuntimeError("no event loop runs here: make the client in a coroutine, where it is used") from None
    if not target.startswith(TLS):
        return grpc.aio.insecure_channel(target, options=_options(narrow))
    return grpc.aio.secure_channel(target.removeprefix(TLS), _of_channel(target, credentials), options=_options(narrow))


def _options(narrow: bool) -> tuple[tuple[str, int], ...]:
    return (*OPTIONS, *_NARROW) if narrow else OPTIONS


def _of_channel(target: str, credentials: Credentials) -> grpc.ChannelCredentials:
    try:
        parts = (_read(credentials.ca), _read(credentials.key), _read(credentials.certificate))
    except OSError as error:
        message = f"{error.filename} can't be read, which VLLMD_CA, VLLMD_CLIENT_CERTIFICATE or VLLMD_CLIENT_KEY names"
        raise DaemonUnreachable(target, f"{message}: {error.strerror}", request_sent=False) from error
    return grpc.ssl_channel_credentials(*parts)


def _is_loopback(target: str) -> bool:
    host = target.removeprefix("dns:").lstrip("/").rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name, which may be anywhere


def _read(path: str | None) -> bytes | None:
    return pathlib.Path(path).read_bytes() if path is not None else None
