from __future__ import annotations

import contextlib
import os
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.fakes.host import Host
from tests.fakes.ports import free_port
from tests.fakes.served import host_service_of, reason_of, watchdog_of
from vllmd.api.engine_service import EngineService
from vllmd.api.port import Port
from vllmd.api.server import Server
from vllmd.api.tls import Certificates, Files, read
from vllmd.errors import NotPossible
from vllmd.v1 import host_service_pb2 as pb
from vllmd.v1.host_service_pb2_grpc import HostServiceStub

DATA = Path(__file__).parents[1] / "data" / "tls"


def files(directory: Path, name: str = "server", clients: bool = False) -> Files:
    """Put a certificate where the daemon reads it."""
    for suffix in ("crt", "key"):
        shutil.copy(DATA / f"{name}.{suffix}", directory / f"server.{suffix}.new")
        (directory / f"server.{suffix}.new").rename(directory / f"server.{suffix}")
    ca = DATA / "clients.crt" if clients else None
    return Files(directory / "server.crt", directory / "server.key", ca)


@contextlib.asynccontextmanager
async def listening(found: Files) -> AsyncIterator[str]:
    """Serve on TCP with a certificate; gives the address."""
    async with Host() as host:
        watchdog = watchdog_of(host)
        server = Server(EngineService(host.scheduler), host_service_of(host, watchdog))
        address = f"localhost:{free_port()}"
        await server.start([], Port(address, Certificates(found)))
        try:
            yield address
        finally:
            await server.stop(0)
            watchdog.close()


async def ask(address: str, trusted: str = "server", client: str | None = None, stop: bool = False) -> int:
    """Ask the daemon for its pid over a new connection, which trusts one certificate."""
    own = [(DATA / f"{client}.{suffix}").read_bytes() for suffix in ("key", "crt")] if client else [None, None]
    credentials = grpc.ssl_channel_credentials((DATA / f"{trusted}.crt").read_bytes(), *own)
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(address, credentials, options) as channel:
        stub: Any = HostServiceStub(channel)
        if stop:
            await stub.StopEngine(pb.StopEngineRequest(name="engines/a"), timeout=20)
        answer = await stub.GetStatus(pb.GetStatusRequest(), timeout=20)
        return int(answer.host.pid)


async def test_a_new_certificate_counts_for_the_next_connection(tmp_path: Path) -> None:
    """Without a reload; who trusts the old one alone is not served any more."""
    async with listening(files(tmp_path)) as address:
        before = await ask(address)
        files(tmp_path, "other")
        after = await ask(address, "other")
        with pytest.raises(grpc.aio.AioRpcError) as distrusted:
            await ask(address, "server")

        assert before == after == os.getpid()
        assert distrusted.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_that_can_not_be_used_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Half a change is one; it is told once, and what was in force stays so."""
    async with listening(files(tmp_path)) as address:
        shutil.copy(DATA / "other.crt", tmp_path / "server.crt")
        pids = [await ask(address) for _ in range(3)]
        shutil.copy(DATA / "other.key", tmp_path / "server.key")
        pids.append(await ask(address, "other"))
        (tmp_path / "server.key").unlink()
        pids.append(await ask(address, "other"))

        assert pids == [os.getpid()] * 5
        assert sum("with the certificate that is in force" in record.message for record in caplog.records) == 2


async def test_who_has_no_certificate_is_not_let_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where the settings name who issues them; who has one is a user."""
    async with listening(files(tmp_path, clients=True)) as address:
        pid = await ask(address, client="client")
        for stranger in (None, "other"):
            with pytest.raises(grpc.aio.AioRpcError) as unknown:
                await ask(address, client=stranger)
            assert unknown.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.aio.AioRpcError) as denied:
            await ask(address, client="client", stop=True)

        assert pid == os.getpid()
        assert reason_of(denied.value) == "OPERATOR_NEEDED"
        assert f'user by {address} with the certificate of "alice": OPERATOR_NEEDED' in caplog.text


@pytest.mark.parametrize(
    ("certificate", "key", "ca"),
    [
        ("server.crt", "other.key", None),
        ("server.key", "server.crt", None),
        ("server.crt", "server.key", "client.key"),
        ("missing.crt", "server.key", None),
        ("server.crt", "server.key", "missing.crt"),
    ],
)
def test_files_that_do_not_go_together(certificate: str, key: str, ca: str | None) -> None:
    """Are refused in words, each named: gRPC would serve, and refuse each handshake."""
    wrong = Files(DATA / certificate, DATA / key, DATA / ca if ca else None)
    with pytest.raises(NotPossible, match=certificate) as refused:
        read(wrong)

    assert refused.value.reason == "TLS_UNUSABLE"
    assert str(DATA / key) in refused.value.message


def test_a_key_with_a_passphrase_is_refused(tmp_path: Path) -> None:
    """And nobody is asked for it: OpenSSL would read the terminal."""
    found = files(tmp_path)
    found.key.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n")

    with pytest.raises(NotPossible):
        read(found)


def test_the_samples_are_right() -> None:
    """What the tests above show is not due to their data."""
    for name in ("server", "other", "client"):
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(DATA / f"{name}.crt", DATA / f"{name}.key")
