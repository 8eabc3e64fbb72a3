"""Every listener and every role against every RPC, with a real server: what gets through, and what does not."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.fakes.host import Host
from tests.fakes.methods import methods
from tests.fakes.ports import free_port
from tests.fakes.served import host_service_of, reason_of, watchdog_of
from vllmd.api.access import RULES, Role
from vllmd.api.doors import Door
from vllmd.api.engine_service import EngineService
from vllmd.api.port import Port
from vllmd.api.server import Server
from vllmd.api.tls import Certificates, Files
from vllmd.api.tokens import Tokens, line

DATA = Path(__file__).parents[1] / "data" / "tls"
WAIT_SECONDS = 20.0
DENIED = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)
ANSWERS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED)
"""What methods themselves say to an empty message; gRPC's health has a method that nobody implements."""


@dataclasses.dataclass(frozen=True)
class Way:
    """A listener, and what somebody brings along who comes by it."""

    name: str
    role: Role | None
    """What that makes of them; `None` if they are nobody."""
    token: str = ""
    client: bool = False
    """Whether they have a certificate."""

    def __str__(self) -> str:
        return self.name + (f"-{self.token}" if self.token else "") + ("-certificate" if self.client else "")


WAYS = (
    Way("admin.sock", Role.OPERATOR),
    Way("admin.sock", Role.OPERATOR, "wrong"),
    Way("vllmd.sock", Role.USER),
    Way("vllmd.sock", Role.USER, "operator"),
    Way("loopback", Role.USER),
    Way("loopback", Role.USER, "operator"),
    Way("tokens", None),
    Way("tokens", None, "wrong"),
    Way("tokens", Role.USER, "user"),
    Way("tokens", Role.OPERATOR, "operator"),
    Way("mtls", Role.USER, client=True),
    Way("mtls", Role.USER, "operator", client=True),
    Way("mtls-tokens", None, client=True),
    Way("mtls-tokens", Role.USER, "user", client=True),
    Way("mtls-tokens", Role.OPERATOR, "operator", client=True),
)
"""A token where none is asked for is none: it neither opens nor closes a socket."""


@contextlib.asynccontextmanager
async def listening(way: str) -> AsyncIterator[str]:
    """Serve by one listener, as the daemon does; gives its address."""
    async with Host() as host:
        watchdog = watchdog_of(host)
        server = Server(EngineService(host.scheduler), host_service_of(host, watchdog))
        address = f"localhost:{free_port()}"
        file = host.directory / "tokens.toml"
        file.write_text("\n".join([line("u", "user", "user"), line("o", "operator", "operator")]))
        tokens = Tokens(file) if "tokens" in way else None
        files = Files(DATA / "server.crt", DATA / "server.key", DATA / "clients.crt")
        certificates = Certificates(files) if "mtls" in way else None
        if way.endswith(".sock"):
            path = host.directory / way
            role = Role.OPERATOR if way == "admin.sock" else Role.USER
            await server.start([Door(path=path, role=role, mode=0o600, remedy="Use the other.")])
            address = f"unix:{path}"
        else:
            await server.start([], Port(address, certificates, tokens))
        try:
            yield address
        finally:
            await server.stop(0)
            watchdog.close()


def channel(address: str, way: Way) -> grpc.aio.Channel:
    """Connect as somebody who comes that way."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    if "mtls" not in way.name:
        return grpc.aio.insecure_channel(address, options)
    names = ("server.crt", "client.key", "client.crt") if way.client else ("server.crt",)
    parts = [(DATA / name).read_bytes() for name in names]
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(*parts), options)


async def outcome(connected: grpc.aio.Channel, way: Way, method: str) -> str:
    """Make a call with an empty message; tells why it was not let in, or that it was."""
    metadata = (("authorization", f"Bearer {way.token}"),) if way.token else ()
    # Streams of requests and of one look alike on the wire: one message, and its end.
    ask: Any = connected.unary_stream(method)
    call = ask(b"", metadata=metadata, timeout=WAIT_SECONDS)
    try:
        await call.read()
    except grpc.aio.AioRpcError as error:
        if error.code() in DENIED:
            return reason_of(error)
        return "let in" if error.code() in ANSWERS else str(error)
    finally:
        call.cancel()
    return "let in"


def expected(way: Way, method: str) -> str:
    """What the rules say."""
    if way.role is None:
        return "TOKEN_UNKNOWN" if way.token else "TOKEN_MISSING"
    return "let in" if way.role >= RULES[method] else "OPERATOR_NEEDED"


@pytest.mark.parametrize("way", WAYS, ids=str)
async def test_every_cell(way: Way) -> None:
    """No listener lets in more than its role, and none less."""
    async with listening(way.name) as address, channel(address, way) as connected:
        found = {method: await outcome(connected, way, method) for method in methods()}

    assert found == {method: expected(way, method) for method in methods()}


async def test_without_a_certificate_there_is_no_connection() -> None:
    """So there is no cell to try."""
    way = Way("mtls", None)
    async with listening(way.name) as address, channel(address, way) as connected:
        check: Any = connected.unary_unary("/grpc.health.v1.Health/Check")
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await check(b"", timeout=WAIT_SECONDS)

        assert unknown.value.code() is grpc.StatusCode.UNAVAILABLE
