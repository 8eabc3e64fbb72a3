"""Who is at the other end of a process tree's connections.

Whoever uses a vLLM core talks to it by ZMQ: over Unix sockets on one host, over TCP between hosts. So a core is used
if a living process outside of its tree holds the other end of one of its connections. The kernel tells the two ends
of a Unix socket by `sock_diag`; of one whose other end nobody holds any more it gives no peer. Those of TCP are told by
`tcp`. What can't be found out is `None`: unknown is never a proof.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import socket
import struct
from collections.abc import Callable, Collection, Iterator, Mapping

from vllmd.watchdog.tcp import TcpSocket, far_ends, tcp_sockets
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
    """What that process is called."""
    path: str = ""
    """What either end is bound to, of Unix sockets."""
    host: str = ""
    """Where the other end is, of TCP's; empty for Unix sockets."""

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

    def now(self, stats: Mapping[int, Stat]) -> Wires:
        """Begin a look; nothing is read before it is asked for.

        Args:
            stats: all processes.
        """
        return Wires(stats, self._find)

    def _find(self, wanted: set[int], stats: Mapping[int, Stat]) -> Mapping[int, Identity]:
        """Learn who holds sockets, and forget who is gone."""
        known = self._holders.items()
        self._holders = {inode: who for inode, who in known if who.pid in stats and stats[who.pid].identity == who}
        unknown = wanted - self._holders.keys()
        if unknown:
            for pid, stat in stats.items():
                for inode in unknown & (socket_inodes(pid) or set()):
                    self._holders[inode] = stat.identity
        return self._holders


class Wires:
    """The connections at one moment: what it takes to tell of several trees is read once.

    Args:
        stats: all processes.
        find: finds who holds sockets.
    """

    def __init__(
        self,
        stats: Mapping[int, Stat],
        find: Callable[[set[int], Mapping[int, Stat]], Mapping[int, Identity]],
    ) -> None:
        self._stats = stats
        self._find = find
        self._inodes: dict[int, set[int] | None] = {}

    def outside(self, tree: Collection[int]) -> list[Connection] | None:
        """List the connections that lead out of a tree to somebody alive; `None` if that can't be found out.

        Args:
            tree: the process ids of the tree, all in our own network namespace.
        """
        inside: set[int] = set()
        for pid in tree:
            if pid not in self._inodes:
                self._inodes[pid] = socket_inodes(pid)
            held = self._inodes[pid]
            if held is None:
                return None
            inside |= held
        unix, tcp = self._unix, self._tcp
        if unix is None or tcp is None:
            return None
        near = []
        for inode in inside & unix.keys():
            peer = unix[inode].peer
            if peer and peer not in inside:
                path = unix[inode].path or (unix[peer].path if peer in unix else "")
                if not path.startswith(_SYSTEM):
                    near.append((peer, path))
        far = far_ends(inside, tcp)
        holders = self._find({peer for peer, _ in near}.union(*(end.inodes for end in far)), self._stats)
        over_unix = [self._connection(holders.get(peer), path) for peer, path in near]
        over_tcp = [
            self._connection(holder, host=end.host)
            for end in far
            for holder in dict.fromkeys(map(holders.get, end.inodes)) or (None,)
        ]
        return over_unix + over_tcp

    @functools.cached_property
    def _unix(self) -> dict[int, UnixSocket] | None:
        return unix_sockets()

    @functools.cached_property
    def _tcp(self) -> list[TcpSocket] | None:
        return tcp_sockets()

    def _connection(self, holder: Identity | None, path: str = "", host: str = "") -> Connection:
        return Connection(holder, self._stats[holder.pid].name if holder is not None else "", path, host)


def socket_inodes(pid: int) -> set[int] | None:
    """List the inodes of the sockets that a process has open; `None` if we may not look."""
    directory = f"/proc/{pid}/fd"
    try:
        names = os.listdir(directory)
    except PermissionError:
        return _inodes_by_info(pid)
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


def _inodes_by_info(pid: int) -> set[int] | None:
    """Do the same for a process of another user.

    Only root may list `fd`, or who may read every file of the host. `fdinfo` takes CAP_SYS_PTRACE alone, and names
    inodes, since Linux 5.14.
    """
    directory = f"/proc/{pid}/fdinfo"
    found = set()
    try:
        for name in os.listdir(directory):
            try:
                fields = _info(f"{directory}/{name}")
            except FileNotFoundError:
                continue  # closed meanwhile
            if fields["mnt_id"] == _mount_of_sockets():
                found.add(int(fields["ino"]))
    except (OSError, KeyError, ValueError):
        return None
    return found


@functools.cache
def _mount_of_sockets() -> str:
    """Tell on which mount sockets are: inodes of files have the same numbers."""
    with socket.socket(socket.AF_UNIX) as any_socket:
        return _info(f"/proc/self/fdinfo/{any_socket.fileno()}")["mnt_id"]


def _info(path: str) -> dict[str, str]:
    with open(path, encoding="utf-8", errors="replace") as file:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}


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
