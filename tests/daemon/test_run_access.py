"""A real daemon, and those who should not get far with it."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psutil
import pytest

from tests.fakes.ports import free_port
from tests.host.running import RunningDaemon, home, until
from vllmd.api.tokens import line, new
from vllmd.client import Client, VllmdError
from vllmd.v1 import host_service_pb2 as pb
from vllmd.v1.host_service_pb2_grpc import HostServiceStub

CONNECTIONS = 3000
AT_ONCE = 100
FLAT_BYTES = 16 << 20
OWN_FILES = 8
"""What the daemon may have opened for itself meanwhile, such as a log that it reads: next to nothing of so many."""
"""What an allocator may keep of so many connections; each one that is open takes 14 KiB, 41 MiB in all."""

Open = Callable[[], socket.socket]


def opener(daemon: RunningDaemon, port: int, way: str) -> Open:
    """Connect by a listener, as often as one likes."""
    if way == "tcp":
        return lambda: socket.create_connection(("127.0.0.1", port), 10)

    def open_unix() -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.connect(str(daemon.users_socket))  # with a timeout it would not wait while the daemon's queue is full
        made.settimeout(10)
        return made

    return open_unix


def drain(connection: socket.socket) -> bytes:
    """Read until the daemon closes the connection, or says nothing more for a moment."""
    read = b""
    connection.settimeout(0.5)
    with contextlib.suppress(TimeoutError, ConnectionResetError):
        while chunk := connection.recv(1 << 16):
            read += chunk
    return read


def say(connect: Open, data: bytes) -> bytes:
    """Say something, and listen."""
    with connect() as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
        return drain(connection)


def greet_with_tls(connect: Open) -> None:
    """Shake hands as if there were TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with connect() as connection, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(connection).close()


@contextlib.contextmanager
def half_open(connect: Open, count: int) -> Iterator[None]:
    """Be connected, and say nothing, or half of what is to be said."""
    with contextlib.ExitStack() as stack:
        for index in range(count):
            connection = stack.enter_context(connect())
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[: index % 24])
        yield


def drop(connect: Open, count: int) -> None:
    """Open connections and drop them, some at a time, each second one with a reset or in the middle of a word."""
    for start in range(0, count, AT_ONCE):
        connections = [connect() for _ in range(min(AT_ONCE, count - start))]
        for index, connection in enumerate(connections):
            if index % 2:
                connection.sendall(b"PRI * HTTP")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()


@pytest.mark.parametrize("way", ["unix", "tcp"])
def test_what_is_no_call_changes_nothing(way: str) -> None:
    """Bytes of any kind, another protocol, silence, many connections: memory and descriptors stay, and it serves."""
    port = free_port()
    with home("--backend", "fake", "--listen", f"127.0.0.1:{port}") as place:
        daemon = place.start()
        connect = opener(daemon, port, way)
        loaded = daemon.load(fake_tokens_per_second=20)
        stream = daemon.generate(loaded.engine.name, 400)
        next(stream)
        process = psutil.Process(daemon.process.pid)
        drop(connect, 200)
        settled = process.num_fds()
        until(lambda: process.num_fds() <= settled, "the first connections' end")
        memory, descriptors = process.memory_info().rss, process.num_fds()

        answers = [say(connect, data) for data in (os.urandom(1 << 16), b"\0" * 4096, b"\xff" * 4096, b"\r\n" * 100)]
        web = say(connect, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        say(connect, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + os.urandom(1 << 12))
        greet_with_tls(connect)
        with half_open(connect, 100):
            during = daemon.status().host.pid
        drop(connect, CONNECTIONS)
        until(lambda: process.num_fds() <= descriptors + OWN_FILES, "all connections' end")
        grown = process.memory_info().rss - memory
        next(stream)
        stream.cancel()

        assert not any(b"vllm" in answer for answer in answers)
        assert web == b"" or b"HTTP/1" in web or web[3:4] == b"\x04"  # what HTTP/2 says first: SETTINGS
        assert during == daemon.process.pid == daemon.status().host.pid
        assert grown < FLAT_BYTES
        assert "Traceback" not in daemon.log.read_text()


def test_a_token_is_nowhere_to_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a right nor a wrong one: not in the log, the status, events, command lines or engines' environments."""
    secret, wrong, port = new(), new(), free_port()
    file = tmp_path / "tokens.toml"
    file.write_text(line("alice", secret, "user"))
    with home("--backend", "fake", "--log-level", "debug") as place:
        daemon = place.start("--listen", f"127.0.0.1:{port}", "--token-file", str(file))
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            for token in (secret, wrong):
                with pytest.raises(grpc.RpcError):
                    HostServiceStub(channel).StopEngine(
                        pb.StopEngineRequest(name="engines/a"), metadata=(("authorization", f"Bearer {token}"),)
                    )
        monkeypatch.setenv("VLLMD_TOKEN", secret)
        with Client(f"127.0.0.1:{port}") as client:
            llm = client.load("m")  # kept, as its lease would end with it
            with pytest.raises(VllmdError, match="OPERATOR_NEEDED"):
                client.stop("none")
            events = str(list(daemon.host.WatchEvents(pb.WatchEventsRequest(last=1000))))
            said = [daemon.log.read_text(), events, str(daemon.status())]
            for identity in (daemon.process.pid, *(one.pid for one in place.engine_processes())):
                said += [
                    Path(f"/proc/{identity}/{name}").read_text(errors="replace") for name in ("cmdline", "environ")
                ]
            llm.release()

        assert "with the token alice: OPERATOR_NEEDED" in said[0]
        assert len(said) > 5
        assert not [text for text in said if secret in text or wrong in text]


def test_a_user_and_an_operator_of_ones_own_daemon() -> None:
    """By their sockets: a user can't stop an engine and is told how; vllmd-cli finds the operators' by itself."""
    with home("--backend", "fake") as place:
        daemon = place.start()
        name = daemon.load().engine.name
        with Client(f"unix:{daemon.users_socket}") as client, pytest.raises(VllmdError) as denied:
            client.stop(name)
        (place.path / "run").mkdir()
        (place.path / "run" / "vllmd").symlink_to(place.path)
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(place.path / "run")}
        environment.pop("VLLMD_ADDRESS", None)
        stopped = subprocess.run(
            [sys.executable, "-m", "vllmd.cli", "stop", name],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        log = daemon.log.read_text()

        assert denied.value.code is grpc.StatusCode.PERMISSION_DENIED
        assert f"Operators connect to {daemon.socket}" in denied.value.message
        assert stopped.returncode == 0, stopped.stderr
        assert f'StopEngine name="{name}", user by vllmd.sock: OPERATOR_NEEDED' in log
        assert f'StopEngine name="{name}", operator by admin.sock: OK after' in log


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be others")
def test_groups_come_by_their_sockets() -> None:
    """Whoever is in neither comes by none."""
    users, operators, nobody = 60001, 60002, 60003
    program = (
        "import os, socket, sys\n"
        "os.setgroups([]), os.setgid(int(sys.argv[2])), os.setuid(60004)\n"
        "socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    )
    with home("--backend", "fake", "--socket-group", str(users), "--admin-group", str(operators)) as place:
        daemon = place.start()
        found = {}
        for name, path in (("users", daemon.users_socket), ("operators", daemon.socket)):
            for group in (users, operators, nobody):
                command = [sys.executable, "-c", program, str(path), str(group)]
                done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
                assert done.returncode == 0 or "PermissionError" in done.stderr
                found[name, group] = done.returncode == 0

        assert [way for way, open_to in found.items() if open_to] == [("users", users), ("operators", operators)]
