from __future__ import annotations

import pytest

from vllmd.api.port import Port, check_listen
from vllmd.errors import NotPossible


@pytest.mark.parametrize(
    "address", ["127.0.0.1:0", "127.0.0.1:8765", "127.9.9.9:1", "[::1]:1", "localhost:8765", "127.0.0.1:65535"]
)
def test_loopback_may_be_listened_on(address: str) -> None:
    """Nobody outside of this host can connect there."""
    check_listen(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0:8765",
        "[::]:8765",
        "192.168.1.4:8765",
        "10.0.0.1:1",
        "gpu-host.example.org:8765",
        "localhost.example.org:1",
        "127.0.0.1.example.org:1",
        "127.1:8765",
        "localhost:x",
        "localhost:",
        "localhost",
        "127.0.0.1",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:8²",
        "127.0.0.1:٣",
        "127.0.0.1: 1",
        ":8765",
        "",
    ],
)
def test_anything_else_is_refused(address: str) -> None:
    """Without TLS nobody outside may connect, and an address that is none is no loopback either."""
    with pytest.raises(NotPossible, match=r"--listen .* is (refused|no HOST:PORT)") as refused:
        check_listen(address)

    assert refused.value.reason == "LISTEN_REFUSED"


def test_beyond_loopback_takes_tls_and_somebody_to_be_known() -> None:
    """Encryption alone keeps nobody out, and neither counts for an address that is none."""
    check_listen("0.0.0.0:8765", tls=True, known=True)
    check_listen("gpu-host.example.org:1", tls=True, known=True)
    with pytest.raises(NotPossible, match="without TLS"):
        check_listen("0.0.0.0:8765", known=True)
    with pytest.raises(NotPossible, match="whoever reaches it could load models"):
        check_listen("0.0.0.0:8765", tls=True)
    with pytest.raises(NotPossible, match="is no HOST:PORT"):
        check_listen(":8765", tls=True, known=True)


def test_a_port_without_certificates() -> None:
    """Has none to show."""
    assert Port("127.0.0.1:1").credentials() is None
