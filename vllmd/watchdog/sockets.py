"""Who is at the other end of a process tree's connections.

Whoever uses a vLLM core talks to it by ZMQ: over Unix sockets on one host, over TCP between hosts. So a core is used
if a living process outside of its tree holds the other end of one of its connections. The kernel tells the two ends
of a Unix socket by `sock_diag`; of one whose other end nobody holds any more it gives no peer. What can't be found
out is `None`: unknown is never a proof.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import socket
import struct
from collections.abc import Collection, Iterator, Mapping

from vllmd.worker.processes import Identity, Stat

_SYSTEM = ("/run/systemd/", "/run/dbus/", "/run/nscd/", "/run/nvidia", "/tmp/nvidia-mps", "/dev/log")  # noqa: S108
"""Where services listen that any process may talk to, and that answer for none."""

_ZMQ_NAME = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
"""How vLLM calls its ZMQ sockets (`get_open_zmq_ipc_path`)."""

_SOCK_DIAG_BY_FAMILY, _NLMSG_ERROR, _NLMSG_DONE = 20, 2, 3
_NLM_F_REQUEST, _NLM_F_DUMP, _NLM_F_DUMP_INTR = 0x1, 0x300, 0x10
_UDIAG_SHOW_NAME, _UDIAG_SHOW_PEER = 0x1, 0x4
_UNIX_DIAG_NAME, _UNIX_DIAG_PEER = 0, 2
_NETLINK_SOCK_DIAG = 4
_ESTABLISHED = "01"
_HEADER = struct.Struct("=IHHII")
_MESSAGE = struct.Struct("=BBBBIII")
_REQUEST = struct.Struct("=BBHIIIII")
_ATTRIBUTE = struct.Struct("=HH")
_TIMEOUT_SECONDS = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class UnixSocket:
    """A Unix socket of this network namespace."""

    inode: int
    path: str
    """What it is bound to; empty for most that connected."""
    peer: int
    """The inode of the other end; 0 if nobody holds that."""


@dataclasses.dataclass(frozen=True, slots=True)
class Connection:
    """A connection that leads out of a tree to somebody alive."""

    holder: Identity | None
    """Who holds the other end; `None` if that can't be found out."""
    name: str
    """Its name, or its address."""
    path: str
    """What either end is bound to."""

    @property
    def zmq(self) -> bool:
        """Tell whether it is named as vLLM names its ZMQ sockets."""
        return _ZMQ_NAME.fullmatch(os.path.basename(self.path)) is not None


class Sockets:
    """Looks at connections; remembers who holds a socket, for as long as that process is there.

    To find a holder takes a look at every file of every process, and a connection stays for weeks.
    """

    def __init__(self) -> None:
        self._holders: dict[int, Identity] = {}

    def outside(self, tree: Collection[int], stats: Mapping[int, Stat]) -> list[Connection] | None:
        """List the connections that lead out of a tree to somebody alive; `None` if that can't be found out.

        Args:
            tree: the process ids of the tree, all in our own network namespace.
            stats: all processes.
        """
        inside: set[int] = set()
        for pid in tree:
            held = socket_inodes(pid)
            if held is None:
                return None
            inside |= held
        sockets = unix_sockets()
        remote = _tcp_outside(next(iter(tree)), inside) if tree else []
        if sockets is None or remote is None:
            return None
        found = []
        for inode in inside & sockets.keys():
            peer = sockets[inode].peer
            if peer and peer not in inside:
                path = sockets[inode].path or (sockets[peer].path if peer in sockets else "")
                if not path.startswith(_SYSTEM):
                    found.append((peer, path))
        self._find({peer for peer, _ in found}, stats)
        return [self._connection(peer, path, stats) for peer, path in found] + remote

    def _connection(self, peer: int, path: str, stats: Mapping[int, Stat]) -> Connection:
        holder = self._holders.get(peer)
        return Connection(holder, stats[holder.pid].name if holder is not None else "", path)

    def _find(self, wanted: set[int], stats: Mapping[int, Stat]) -> None:
        """Learn who holds sockets, and forget who is gone."""
        known = self._holders.items()
        self._holders = {inode: who for inode, who in known if who.pid in stats and stats[who.pid].identity == who}
        unknown = wanted - self._holders.keys()
        if not unknown:
            return
        for pid, stat in stats.items():
            for inode in unknown & (socket_inodes(pid) or set()):
                self._holders[inode] = stat.identity


def socket_inodes(pid: int) -> set[int] | None:
    """List the inodes of the sockets that a process has open; `None` if we may not look."""
    directory = f"/proc/{pid}/fd"
    try:
        names = os.listdir(directory)
    except OSError:
        return None
    found = set()
    for name in names:
        try:
            target = os.readlink(f"{directory}/{name}")
        except OSError:
            continue  # closed meanwhile
        if target.startswith("socket:["):
            found.add(int(target[8:-1]))
    return found


def unix_sockets() -> dict[int, UnixSocket] | None:
    """Ask the kernel for all Unix sockets of this network namespace; `None` if it does not say.

    `/proc/net/unix` has their paths too, but not who is connected with whom.
    """
    flags = _UDIAG_SHOW_NAME | _UDIAG_SHOW_PEER
    request = _REQUEST.pack(socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, flags, 0xFFFFFFFF, 0xFFFFFFFF)
    header = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as netlink:
            netlink.settimeout(_TIMEOUT_SECONDS)
            netlink.send(header + request)
            return {found.inode: found for found in _answers(netlink)}
    except (OSError, struct.error, _NotUnderstoodError):
        return None


class _NotUnderstoodError(Exception):
    """The kernel answers something else."""


def _answers(netlink: socket.socket) -> Iterator[UnixSocket]:
    while True:
        data = netlink.recv(1 << 18)
        offset = 0
        while offset < len(data):
            length, kind, flags, _, _ = _HEADER.unpack_from(data, offset)
            if kind == _NLMSG_DONE:
                return
            if kind != _SOCK_DIAG_BY_FAMILY or flags & _NLM_F_DUMP_INTR or length < _HEADER.size:
                raise _NotUnderstoodError
            yield parse_socket(data[offset + _HEADER.size : offset + length])
            offset += (length + 3) & ~3


def parse_socket(message: bytes) -> UnixSocket:
    """Read a `struct unix_diag_msg` with its attributes."""
    inode = _MESSAGE.unpack_from(message)[4]
    path, peer = "", 0
    offset = _MESSAGE.size
    while offset + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, offset)
        value = message[offset + _ATTRIBUTE.size : offset + length]
        if kind == _UNIX_DIAG_NAME:
            path = os.fsdecode(value.rstrip(b"\0"))
        elif kind == _UNIX_DIAG_PEER:
            (peer,) = struct.unpack("=I", value)
        offset += max((length + 3) & ~3, _ATTRIBUTE.size)
    return UnixSocket(inode, path, peer)


def _tcp_outside(pid: int, inside: Collection[int]) -> list[Connection] | None:
    """List the TCP connections that lead out of a tree."""
    found: dict[tuple[str, str], int] = {}
    for table in ("tcp", "tcp6"):
        try:
            lines = pathlib.Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except FileNotFoundError:
            continue  # a kernel without IPv6
        except OSError:
            return None
        for fields in map(str.split, lines):
            if fields[3] == _ESTABLISHED and int(fields[9]) in inside:
                found[fields[1], fields[2]] = int(fields[9])
    return [Connection(None, f"TCP {_address(there)}", "") for here, there in found if (there, here) not in found]


def _address(text: str) -> str:
    """Write `0100007F:1F90` as `127.0.0.1:8080`."""
    host, _, port = text.partition(":")
    words = b"".join(struct.pack("<I", int(host[start : start + 8], 16)) for start in range(0, len(host), 8))
    family = socket.AF_INET if len(words) == 4 else socket.AF_INET6
    return f"{socket.inet_ntop(family, words)}:{int(port, 16)}"
