"""A real daemon in a directory of its own, and a look at what is left of it afterwards."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from tests.leftovers import engine_processes, look
from vllmd.v1 import engine_pb2, engine_service_pb2, host_service_pb2
from vllmd.v1.engine_service_pb2_grpc import EngineServiceStub
from vllmd.v1.host_service_pb2_grpc import HostServiceStub
from vllmd.worker.leftovers import remove_shared_memory
from vllmd.worker.processes import Identity, hold, processes, read_stat

DEADLINE_SECONDS = 30.0
_LINES_OF_A_FAILURE = 40


class RunningDaemon:
    """A `vllmd` process and a channel to it."""

    def __init__(self, home: pathlib.Path, options: tuple[str, ...], environment: dict[str, str] | None = None) -> None:
        self.home = home
        self.kept: list[Any] = []
        """Calls that are to go on: gRPC cancels one that nobody refers to any more."""
        self.socket = home / "admin.sock"
        self.users_socket = home / "vllmd.sock"
        self.log = home / "daemon.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "vllmd",
                    "--runtime-dir",
                    home,
                    "--cache-dir",
                    home / "cache",
                    "--state-dir",
                    home / "state",
                    *options,
                ],
                stdout=log,
                stderr=log,
                # Whatever this host has in /etc: benchmarks run without pytest's conftest.
                env={**os.environ, "CONFIGURATION_DIRECTORY": str(home), **(environment or {})},
            )
        # Without a pool of its own a channel shares the dead connection of an earlier daemon's, back-off included.
        self.channel = grpc.insecure_channel(f"unix:{self.socket}", [("grpc.use_local_subchannel_pool", 1)])
        self.engines = EngineServiceStub(self.channel)
        self.host = HostServiceStub(self.channel)

    def wait_ready(self) -> RunningDaemon:
        """Wait until it serves."""
        until(lambda: self.users_socket.exists() or self.process.poll() is not None, "the daemon's socket")
        assert self.process.poll() is None, self.log.read_text()
        grpc.channel_ready_future(self.channel).result(DEADLINE_SECONDS)
        return self

    def load(self, model: str = "fake", **engine_args: Any) -> engine_service_pb2.LoadedModel:
        """Load a model to the end."""
        *_, last = self.engines.LoadModel(load_request(model, **engine_args), timeout=DEADLINE_SECONDS)
        assert last.HasField("loaded")
        return last.loaded

    def generate(self, engine: str, max_tokens: int) -> Any:
        """Begin a generation on an engine."""
        request = engine_service_pb2.GenerateRequest(engine=engine, text="once upon a time")
        request.sampling_params.max_tokens = max_tokens
        request.sampling_params.ignore_eos = True  # a random model may draw the end at any time
        return self.engines.Generate(request, timeout=DEADLINE_SECONDS)

    def engine(self, name: str) -> engine_pb2.Engine:
        """Look at an engine."""
        return self.engines.GetEngine(engine_service_pb2.GetEngineRequest(name=name)).engine

    def status(self) -> host_service_pb2.GetStatusResponse:
        """Look at everything."""
        return self.host.GetStatus(host_service_pb2.GetStatusRequest())

    def upgrade(self) -> None:
        """Have the daemon execute its program anew, and wait until it serves."""
        before = self.status().host.start_time
        self.process.send_signal(signal.SIGUSR2)

        def anew() -> bool:
            try:
                return self.status().host.start_time != before
            except grpc.RpcError:
                return False

        try:
            until(anew, "the new program")
        except AssertionError as error:
            said = (self.log.read_text() if self.log.exists() else "").splitlines()[-_LINES_OF_A_FAILURE:]
            raise AssertionError("\n".join([str(error), *said])) from None

    def kill(self) -> None:
        """`kill -9` the daemon."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM the daemon; returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_SECONDS)

    def close(self) -> None:
        """End the daemon whatever its state."""
        self.channel.close()
        if self.process.poll() is None:
            for patience in (1.0, DEADLINE_SECONDS):  # two at once would be one to it
                self.process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(patience)
                    return
            self.kill()


class Home:
    """A runtime directory in which daemons are started, one after the other."""

    def __init__(self, path: pathlib.Path, *options: str) -> None:
        self.path = path
        self.options = options
        self._daemons: list[RunningDaemon] = []

    def start(self, *options: str, environment: dict[str, str] | None = None) -> RunningDaemon:
        """Start a daemon and wait until it serves."""
        daemon = RunningDaemon(self.path, (*self.options, *options), environment)
        self._daemons.append(daemon)
        return daemon.wait_ready()

    @property
    def latest(self) -> RunningDaemon:
        """The daemon that was started last."""
        return self._daemons[-1]

    def close(self) -> None:
        """End all daemons."""
        for daemon in self._daemons:
            daemon.close()

    def engine_processes(self) -> list[Identity]:
        """Find living processes of all engines that were started from here."""
        return engine_processes(self.path)

    def leftovers(self, name: str) -> list[str]:
        """List what the engine `engines/…` has left."""
        return look(self.path, name.removeprefix("engines/")).listed()


@contextlib.contextmanager
def home(*options: str) -> Iterator[Home]:
    """Make a runtime directory with a short path, as sockets need it, and remove it with all that ran there."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="vd-", dir="/tmp"))
    result = Home(path, *options)
    try:
        yield result
    finally:
        result.close()
        for identity in result.engine_processes():
            kill(identity)
        for directory in (path / "e").glob("*/"):  # of engines that a test which failed has left
            remove_shared_memory(directory.name)
        shutil.rmtree(path, ignore_errors=True)


def vllmd(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `vllmd` to its end."""
    command = [sys.executable, "-m", "vllmd", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def load_request(model: str = "fake", **engine_args: Any) -> engine_service_pb2.LoadModelRequest:
    """Ask for a model with engine arguments."""
    request = engine_service_pb2.LoadModelRequest(model=model)
    request.engine_args.update(engine_args)
    return request


def until(condition: Callable[[], Any], what: str, seconds: float = DEADLINE_SECONDS) -> Any:
    """Wait until *condition* holds; returns its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.005)  # a look at other processes has nothing to wait on
    return value


def kill(identity: Identity) -> None:
    """`kill -9` exactly this process."""
    fd = hold(identity)
    if fd is not None:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        os.close(fd)


def cores_of(worker_pid: int) -> list[Identity]:
    """Find the EngineCore of a worker; none while it is not there yet, or after it."""
    return [
        stat.identity
        for stat in processes()
        if worker_pid and stat.parent_pid == worker_pid and stat.name.startswith("VLLM::Engine")
    ]


def identity_of(pid: int) -> Identity:
    """Name a living process for good."""
    stat = read_stat(pid)
    assert stat is not None
    return stat.identity
