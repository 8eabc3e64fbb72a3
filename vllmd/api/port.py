"""The TCP port that the daemon serves, and where it may be."""

from __future__ import annotations

import dataclasses
import ipaddress

import grpc

from vllmd.api.tls import Certificates
from vllmd.api.tokens import Tokens
from vllmd.errors import NotPossible


@dataclasses.dataclass(frozen=True, slots=True)
class Port:
    """One address of TCP's."""

    address: str
    """HOST:PORT."""
    certificates: Certificates | None = None
    """What is shown there; without it there is no TLS."""
    tokens: Tokens | None = None
    """One of which each call must bring; `None` if none is asked for."""

    def credentials(self) -> grpc.ServerCredentials | None:
        """Make gRPC's form of the certificates."""
        return self.certificates.credentials() if self.certificates is not None else None


def check_listen(address: str, *, tls: bool = False, known: bool = False) -> None:
    """Check that an address may be listened on.

    Args:
        address: HOST:PORT.
        tls: whether connections are encrypted there.
        known: whether who connects has to prove who it is.

    Raises:
        NotPossible: it is none, or beyond loopback without either.
    """
    host, _, port = address.rpartition(":")
    if not (port.isascii() and port.isdigit()) or int(port) > 65535 or not host:
        raise _refused(address, "is no HOST:PORT, such as 127.0.0.1:8765")
    if _is_loopback(host):
        return
    if not tls:
        raise _refused(address, "is refused: without TLS (tls_certificate) only loopback is, such as 127.0.0.1:8765")
    if not known:
        raise _refused(address, "is refused: whoever reaches it could load models; set token_file or tls_client_ca")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False  # a name, which may be anywhere


def _refused(address: str, why: str) -> NotPossible:
    return NotPossible("LISTEN_REFUSED", f"--listen {address} {why}.", address=address)
