from __future__ import annotations

import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator

import pytest

from tests.fakes.capabilities import AS_NOBODY_WITH
from tests.fakes.foreign import Foreign, stat_of
from tests.fakes.processes import eventually
from vllmd.watchdog.sockets import Connection, Sockets, UnixSocket, parse_socket, socket_inodes, unix_sockets
from vllmd.worker.processes import Stat, processes

CONNECT = "import socket, sys; near = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); sys.stdin.read()"


@pytest.fixture
def pair(runtime: pathlib.Path) -> Iterator[tuple[socket.socket, socket.socket, str]]:
    """Both ends of a connection as vLLM names it, both of them this process's."""
    path = str(runtime / str(uuid.uuid4()))
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as near:
        listener.bind(path)
        listener.listen()
        near.connect(path)
        far, _ = listener.accept()
        with far:
            yield near, far, path


def inode(end: socket.socket) -> int:
    return os.fstat(end.fileno()).st_ino


def stats() -> dict[int, Stat]:
    return {stat.identity.pid: stat for stat in processes()}


def test_the_kernel_tells_who_is_connected(pair: tuple[socket.socket, socket.socket, str]) -> None:
    """Each end names the other, and the one that was accepted has the path."""
    near, far, path = pair

    found = unix_sockets()

    assert found is not None
    assert found[inode(near)] == UnixSocket(inode(near), "", inode(far))
    assert found[inode(far)] == UnixSocket(inode(far), path, inode(near))


def test_an_end_that_nobody_holds_is_no_peer(pair: tuple[socket.socket, socket.socket, str]) -> None:
    """Once the last who held it has closed it, there is no other end."""
    near, far, _ = pair
    far.close()

    found = unix_sockets()

    assert found is not None
    assert found[inode(near)].peer == 0


def test_the_sockets_of_a_process(pair: tuple[socket.socket, socket.socket, str]) -> None:
    """Found by their inodes; of a process that is gone they are unknown."""
    assert {inode(pair[0]), inode(pair[1])} <= (socket_inodes(os.getpid()) or set())
    assert socket_inodes(2**22 - 1) is None


def test_a_launcher_holds_the_other_end(runtime: pathlib.Path) -> None:
    """It is named, and the connection is known for ZMQ's by its path; within the tree nothing leads outside."""
    with Foreign("serving", runtime) as foreign:
        sockets = Sockets()
        wires = sockets.now(stats())
        outside = wires.outside([foreign.core.pid, foreign.worker.pid])
        whole = wires.outside([one.pid for one in foreign.members.values()])

        assert outside is not None
        assert [one.holder for one in outside] == [foreign.launcher]
        assert outside[0].zmq
        assert outside[0].name == stat_of(foreign.launcher.pid).name
        assert whole == []


def test_without_its_launcher_nobody_does(runtime: pathlib.Path) -> None:
    """The connection has died with it."""
    with Foreign("serving", runtime) as foreign:
        foreign.lose_launcher()

        assert Sockets().now(stats()).outside([foreign.core.pid, foreign.worker.pid]) == []


def test_whoever_shared_it_still_does(runtime: pathlib.Path) -> None:
    """A holder is remembered only for as long as it is there."""
    with Foreign("shared", runtime, name="any.sock") as foreign:
        foreign.lose_launcher()
        sockets = Sockets()
        found = [sockets.now(stats()).outside([foreign.core.pid]) for _ in range(2)]

        assert found[0] == found[1]
        assert found[0] is not None
        assert [(one.holder, one.zmq) for one in found[0]] == [(foreign.client, False)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can listen where services of the system do")
def test_services_of_the_system_answer_for_nobody() -> None:
    """A connection to a service that everybody talks to keeps nothing alive."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="nvidia-vllmd-test-", dir="/run"))
    try:
        with Foreign("shared", directory) as foreign:
            assert Sockets().now(stats()).outside([foreign.core.pid, foreign.worker.pid]) == []
    finally:
        shutil.rmtree(directory)


def test_what_may_not_be_looked_at_is_unknown() -> None:
    """A tree with a process that is gone meanwhile has no proof."""
    assert Sockets().now(stats()).outside([os.getpid(), 2**22 - 1]) is None


def connected(server: socket.socket) -> subprocess.Popen[bytes]:
    """A process with a connection to here."""
    port = server.getsockname()[1]
    return subprocess.Popen([sys.executable, "-c", CONNECT, str(port)], stdin=subprocess.PIPE)


@pytest.mark.parametrize(
    ("address", "family"), [(("127.0.0.1", 0), socket.AF_INET), (("::", 0), socket.AF_INET6)], ids=["IPv4", "both"]
)
def test_who_holds_the_other_end_over_tcp(address: tuple[str, int], family: int) -> None:
    """Found on this host, whichever way the listener speaks IPv4; within the tree nothing leads outside."""
    both = family == socket.AF_INET6
    with (
        socket.create_server(address, family=family, dualstack_ipv6=both) as server,
        connected(server) as child,
        server.accept()[0],
    ):
        wires = Sockets().now(stats())
        outside = wires.outside([child.pid])
        inside = wires.outside([child.pid, os.getpid()])
        child.communicate(b"")

    own = stat_of(os.getpid())
    assert outside == [Connection(own.identity, own.name, host="127.0.0.1")]
    assert inside is not None
    assert not any(one.holder is not None and one.holder.pid == child.pid for one in inside)


def test_nobody_holds_what_was_closed_over_tcp() -> None:
    """The listener has it until it accepts, then who accepted it; once that has ended, nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as server, connected(server) as child:
        assert eventually(lambda: bool(Sockets().now(stats()).outside([child.pid])))
        waiting = Sockets().now(stats()).outside([child.pid])
        server.accept()[0].close()
        left = Sockets().now(stats()).outside([child.pid])
        child.communicate(b"")

    assert waiting is not None
    assert [one.holder for one in waiting] == [stat_of(os.getpid()).identity]
    assert left == []


@pytest.mark.parametrize("message", [b"", b"\1\1\1\0"])
def test_what_is_not_understood_is_an_error(message: bytes) -> None:
    """It is never taken for the absence of a peer."""
    with pytest.raises(struct.error):
        parse_socket(message)


LOOK = """
from vllmd.watchdog.sockets import socket_inodes
from vllmd.worker import privileges
print(sorted(socket_inodes(os.getppid())))
privileges.drop()
print(socket_inodes(os.getppid()))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes somebody else, which root may")
def test_other_users_sockets_take_one_capability(pair: tuple[socket.socket, socket.socket, str]) -> None:
    """That which the daemon's unit has; without it nothing is known, which proves nothing."""
    program = AS_NOBODY_WITH.format(program=LOOK)
    looked = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    with_it, without = looked.stdout.splitlines()
    own = socket_inodes(os.getpid()) or set()

    assert {inode(pair[0]), inode(pair[1])} <= set(json.loads(with_it)) <= own
    assert without == "None"
