from __future__ import annotations

import os
import socket

import pytest

from vllmd.watchdog.tcp import ESTABLISHED, LISTEN, Address, FarEnd, TcpSocket, far_ends, parse_table, tcp_sockets

FIN_WAIT, CLOSE_WAIT = 0x04, 0x08
HERE, THERE = Address("127.0.0.1", 5000), Address("127.0.0.1", 80)
NOWHERE = Address("0.0.0.0", 0)
OUR, THEIR = 10, 20
END = FarEnd("127.0.0.1", frozenset({THEIR}))
UNSEEN = FarEnd("127.0.0.1", frozenset())


def our(state: int = ESTABLISHED, there: Address = THERE) -> TcpSocket:
    """Our end."""
    return TcpSocket(OUR, HERE, there, state)


def their(inode: int = THEIR, state: int = ESTABLISHED) -> TcpSocket:
    """The other end."""
    return TcpSocket(inode, THERE, HERE, state)


def listener(inode: int = THEIR, host: str = "127.0.0.1", port: int = 80) -> TcpSocket:
    """Who listens where the other end is."""
    return TcpSocket(inode, Address(host, port), NOWHERE, LISTEN)


@pytest.mark.parametrize(
    ("sockets", "found"),
    [
        pytest.param([our(), their()], [END], id="somebody here holds it"),
        pytest.param([our(), their(state=FIN_WAIT)], [END], id="whoever has closed only one way still holds it"),
        pytest.param([our(), their(OUR + 1)], [], id="the tree itself holds it"),
        pytest.param(
            [our(there=Address("10.0.0.2", 80))], [FarEnd("10.0.0.2", frozenset())], id="it is on another host"
        ),
        pytest.param([our()], [UNSEEN], id="it can't be seen"),
        pytest.param([our(), their(0, FIN_WAIT)], [], id="it is closed, and the kernel has yet to tell"),
        pytest.param([our(CLOSE_WAIT), their(0, FIN_WAIT)], [], id="it is closed"),
        pytest.param([our(CLOSE_WAIT)], [], id="it was closed on another host"),
        pytest.param([our(), their(0), listener()], [END], id="a listener has yet to accept it"),
        pytest.param([our(), their(0), listener(host="::")], [END], id="one that listens everywhere"),
        pytest.param([our(), their(0), listener(OUR + 1)], [], id="the tree itself has yet to accept it"),
        pytest.param([our(), their(0), listener(OUR + 1), listener()], [END], id="the tree or somebody else has"),
        pytest.param([our(), their(0), listener(port=81)], [UNSEEN], id="who has yet to accept it can't be seen"),
        pytest.param([TcpSocket(OUR, HERE, HERE, ESTABLISHED)], [], id="a socket is connected with itself"),
        pytest.param([listener(OUR)], [], id="it only listens"),
        pytest.param([their()], [], id="it is somebody else's"),
    ],
)
def test_the_table(sockets: list[TcpSocket], found: list[FarEnd]) -> None:
    """Who may hold the other end, of all that the kernel's table can say about a connection."""
    assert far_ends({OUR, OUR + 1}, sockets) == found


def test_what_the_kernel_writes() -> None:
    """Addresses are words in the host's order; those of IPv4 are the same from sockets of either kind."""
    rest = "00000000:00000000 00:00000000 00000000     0        0"
    text = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        f"   0: 0100007F:1F90 0200000A:0050 01 {rest} 4711 1 0 20 4\n"
        f"   1: 0000000000000000FFFF00000100007F:1F90 00000000000000000000000001000000:0050 0A {rest} 4712 1 0 20 4\n"
    )

    assert list(parse_table(text)) == [
        TcpSocket(4711, Address("127.0.0.1", 8080), Address("10.0.0.2", 80), ESTABLISHED),
        TcpSocket(4712, Address("127.0.0.1", 8080), Address("::1", 80), LISTEN),
    ]


def test_a_real_connection_is_in_the_table() -> None:
    """With both of its ends."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as near,
        server.accept()[0] as far,
    ):
        inodes = [os.fstat(end.fileno()).st_ino for end in (near, far)]
        sockets = tcp_sockets()

    assert sockets is not None
    assert far_ends(inodes[:1], sockets) == [FarEnd("127.0.0.1", frozenset(inodes[1:]))]
    assert far_ends(inodes, sockets) == []
