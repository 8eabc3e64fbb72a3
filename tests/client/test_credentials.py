from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc

from vllmd.client.connection import Connection
from vllmd.client.credentials import Credentials, channel, from_environment
from vllmd.client.errors import DaemonUnreachable

DATA = Path(__file__).parents[1] / "data" / "tls"


@pytest.fixture
def address() -> Iterator[str]:
    """A server that takes nobody without a certificate."""
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    pair = ((DATA / "server.key").read_bytes(), (DATA / "server.crt").read_bytes())
    roots = (DATA / "clients.crt").read_bytes()
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair], roots, True))
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    server.start()
    yield f"tls://localhost:{port}"
    server.stop(0).wait()


def test_what_the_environment_says() -> None:
    """An empty variable is none."""
    environ = {"VLLMD_CA": "/ca", "VLLMD_CLIENT_CERTIFICATE": "/c", "VLLMD_CLIENT_KEY": ""}

    assert from_environment(environ) == Credentials("/ca", "/c", None)
    assert "secret" not in repr(from_environment({"VLLMD_TOKEN": "secret"}))
    assert from_environment({}) == Credentials()


def test_both_ends_prove_who_they_are(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what the environment names."""
    monkeypatch.setenv("VLLMD_CA", str(DATA / "server.crt"))
    monkeypatch.setenv("VLLMD_CLIENT_CERTIFICATE", str(DATA / "client.crt"))
    monkeypatch.setenv("VLLMD_CLIENT_KEY", str(DATA / "client.key"))
    connection = Connection(address)
    connection.wait_until_ready(10)
    connection.close()


def test_a_daemon_of_somebody_else_is_none(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that nobody vouched for."""
    monkeypatch.setenv("VLLMD_CA", str(DATA / "other.crt"))
    connection = Connection(address)
    with pytest.raises(DaemonUnreachable):
        connection.wait_until_ready(0.5)
    connection.close()


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("tls://gpu-host:1", True),
        ("unix:/run/vllmd/vllmd.sock", True),
        ("127.0.0.1:1", True),
        ("[::1]:1", True),
        ("dns:///localhost:1", True),
        ("gpu-host:1", False),
        ("10.0.0.1:1", False),
    ],
)
def test_a_token_goes_where_nobody_else_reads_it(target: str, sent: bool) -> None:
    """To another host only over TLS."""
    expected = (("authorization", "Bearer secret"),) if sent else ()

    assert Credentials(token="secret").metadata(target) == expected
    assert Credentials().metadata(target) == ()


def test_a_file_that_is_not_there() -> None:
    """Is named, with what names it."""
    with pytest.raises(DaemonUnreachable, match=r"/nowhere/ca can't be read, which VLLMD_CA"):
        channel("tls://localhost:1", Credentials("/nowhere/ca"))
