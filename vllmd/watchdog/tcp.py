"""Who holds the other ends of TCP connections, as far as this host can tell.

The kernel's table has both ends of a connection that stays within a network namespace, each with the inode of its
socket. An end that is not in the table is on another host, or in a container's namespace: it can't be seen, and so
counts as somebody's.
"""

from __future__ import annotations

import dataclasses
import pathlib
import socket
import struct
from collections.abc import Collection, Iterator, Sequence

ESTABLISHED, LISTEN = 0x01, 0x0A
_ANY = ("0.0.0.0", "::")  # noqa: S104 - to compare with
_MAPPED = "::ffff:"


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """One end."""

    host: str
    """One of IPv4 in its own form, from a socket of IPv6 too: only so do both ends of a connection fit together."""
    port: int


@dataclasses.dataclass(frozen=True, slots=True)
class TcpSocket:
    """A line of the kernel's table."""

    inode: int
    """0 if no process has it open: it is closed, or nobody has accepted it yet."""
    here: Address
    there: Address
    state: int


@dataclasses.dataclass(frozen=True, slots=True)
class FarEnd:
    """The other end of a connection, which somebody may hold."""

    host: str
    inodes: frozenset[int]
    """The sockets on this host by which it is held; none if it is elsewhere."""


def tcp_sockets() -> list[TcpSocket] | None:
    """List all TCP sockets of this network namespace; `None` if the kernel does not say."""
    found: list[TcpSocket] = []
    for table in ("tcp", "tcp6"):
        try:
            found.extend(parse_table(pathlib.Path(f"/proc/self/net/{table}").read_text()))
        except FileNotFoundError:
            continue  # a kernel without IPv6
        except (OSError, ValueError, IndexError, struct.error):
            return None
    return found


def parse_table(text: str) -> Iterator[TcpSocket]:
    """Read `/proc/net/tcp` or `/proc/net/tcp6`."""
    for fields in map(str.split, text.splitlines()[1:]):
        yield TcpSocket(int(fields[9]), _address(fields[1]), _address(fields[2]), int(fields[3], 16))


def far_ends(inside: Collection[int], sockets: Sequence[TcpSocket]) -> list[FarEnd]:
    """List the other ends of a tree's connections that somebody outside of the tree holds, or may hold.

    Args:
        inside: the inodes of the tree's sockets.
        sockets: all of the network namespace.
    """
    own = frozenset(inside)
    ends = {(one.here, one.there): one for one in sockets}
    found = []
    for one in sockets:
        if one.state != ESTABLISHED or one.inode not in own:
            continue
        other = ends.get((one.there, one.here))
        if other is None:
            found.append(FarEnd(one.there.host, frozenset()))
            continue
        if other.inode == 0 and other.state != ESTABLISHED:
            continue  # closed, and only the kernel has it, until the last bytes are through
        held = {other.inode} if other.inode else _listeners(other.here, sockets)
        if not held or not held <= own:
            found.append(FarEnd(one.there.host, frozenset(held - own)))
    return found


def _listeners(at: Address, sockets: Sequence[TcpSocket]) -> set[int]:
    """Find by which sockets a connection is held that nobody has accepted yet."""
    hosts = (at.host, *_ANY)
    listening = (one for one in sockets if one.state == LISTEN and one.here.port == at.port)
    return {one.inode for one in listening if one.here.host in hosts}


def _address(text: str) -> Address:
    """Read `0100007F:1F90` as `127.0.0.1:8080`."""
    digits, _, port = text.partition(":")
    words = b"".join(struct.pack("<I", int(digits[start : start + 8], 16)) for start in range(0, len(digits), 8))
    host = socket.inet_ntop(socket.AF_INET if len(words) == 4 else socket.AF_INET6, words)
    return Address(host.removeprefix(_MAPPED) if "." in host else host, int(port, 16))
