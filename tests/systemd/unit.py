"""The service as an operator sees it, and its daemon as a client does. Runs inside the booted system."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from vllmd.v1 import engine_pb2, engine_service_pb2, generation_pb2, host_service_pb2
from vllmd.v1.engine_service_pb2_grpc import EngineServiceStub
from vllmd.v1.host_service_pb2_grpc import HostServiceStub
from vllmd.worker.processes import marker, processes

NAME = "vllmd.service"
IN = pathlib.Path("/run/checks/in")
"""What was brought along: packages, and the commands of the README."""
PACKAGED = "/opt/vllmd/bin"
BY_PIP = "/opt/pip/bin"
"""The programs of an environment that pip made, without systemd-python."""
ADOPTION_SECONDS = 6.0
DEADLINE_SECONDS = 30.0
_DROP_INS = pathlib.Path("/run/systemd/system/vllmd.service.d")
_SIMULATED = f"--backend fake --simulate 2xRTX3090 --idle-timeout 600 --adoption-timeout {ADOPTION_SECONDS:g}"
_FAKE_ARGS = {"gpu_memory_utilization": 0.3, "fake_load_seconds": 0}


def run(*command: str | pathlib.Path) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def agreed(command: str, *before: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a terminal, and say yes to what it asks.

    Args:
        command: a line of shell.
        before: words that have somebody else run it.
    """
    script = ("script", "--quiet", "--return", "--command", command, "/dev/null")
    return subprocess.run([*before, *script], input="y\n", capture_output=True, text=True, timeout=60, check=False)


def until(condition: Callable[[], Any], what: str, seconds: float = DEADLINE_SECONDS) -> Any:
    """Wait until *condition* holds; returns its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.02)
    return value


@dataclasses.dataclass(frozen=True)
class Account:
    """Whose daemon it is: the system's, or a user's."""

    user: str
    runtime: pathlib.Path
    systemctl: tuple[str, ...]


SYSTEM = Account("vllmd", pathlib.Path("/run/vllmd"), ("systemctl",))


class Unit:
    """The unit of an account."""

    def __init__(self, account: Account = SYSTEM) -> None:
        self.account = account
        self._channel: grpc.Channel | None = None

    def systemctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run systemctl on it."""
        return run(*self.account.systemctl, *arguments, NAME)

    def show(self, name: str) -> str:
        """Read one of its properties."""
        return self.systemctl("show", "--value", f"--property={name}").stdout.strip()

    @property
    def pid(self) -> int:
        """The daemon's."""
        return int(self.show("MainPID"))

    @property
    def cgroup(self) -> pathlib.Path:
        """The unit's own."""
        return pathlib.Path(f"/sys/fs/cgroup{self.show('ControlGroup')}")

    def start(self) -> None:
        """Start it."""
        started = self.systemctl("start")
        assert started.returncode == 0, f"{started.stderr}\n{self.journal()}"

    def journal(self) -> str:
        """Read what it wrote."""
        return run("journalctl", "--no-pager", "-n", "60", "-o", "cat", "-u", NAME).stdout

    @property
    def channel(self) -> grpc.Channel:
        """A connection to whichever daemon is there now."""
        if self._channel is None:
            target = f"unix:{self.account.runtime}/admin.sock"
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 100)]
            self._channel = grpc.insecure_channel(target, options)
        return self._channel

    def load(
        self, model: str = "a/model", seconds: float = DEADLINE_SECONDS, **engine_args: Any
    ) -> engine_service_pb2.LoadedModel:
        """Load a model to the end: by a path a real one."""
        request = engine_service_pb2.LoadModelRequest(model=model)
        request.engine_args.update(({} if model.startswith("/") else _FAKE_ARGS) | engine_args)
        *_, last = EngineServiceStub(self.channel).LoadModel(request, timeout=seconds, wait_for_ready=True)
        return last.loaded

    def generate(self, lease: str, max_tokens: int, **sampling: Any) -> Any:
        """Begin a generation; *sampling* has more of vLLM's sampling parameters."""
        request = engine_service_pb2.GenerateRequest(lease=lease, text="once upon a time")
        request.sampling_params.MergeFrom(generation_pb2.SamplingParams(max_tokens=max_tokens, **sampling))
        return EngineServiceStub(self.channel).Generate(request, timeout=60, wait_for_ready=True)

    def engine(self, name: str) -> engine_pb2.Engine:
        """Look at an engine."""
        request = engine_service_pb2.GetEngineRequest(name=name)
        answer = EngineServiceStub(self.channel).GetEngine(request, timeout=DEADLINE_SECONDS, wait_for_ready=True)
        return answer.engine

    def status(self) -> host_service_pb2.GetStatusResponse:
        """Look at everything."""
        request = host_service_pb2.GetStatusRequest()
        return HostServiceStub(self.channel).GetStatus(request, timeout=DEADLINE_SECONDS, wait_for_ready=True)

    def kill(self, signum: signal.Signals) -> int:
        """Send the daemon a signal; returns its pid."""
        pid = self.pid
        os.kill(pid, signum)
        return pid

    def restarted(self, pid: int) -> int:
        """Wait until systemd has started it anew; returns the new pid."""

        def anew() -> bool:
            return self.show("ActiveState") == "active" and self.pid not in (0, pid)

        until(anew, f"the next daemon\n{self.journal()}")
        return self.pid

    def upgrade(self) -> None:
        """Have the daemon execute its program anew, and wait until it serves."""
        before = self.status().host.start_time
        self.systemctl("kill", "--signal=USR2", "--kill-whom=main")

        def anew() -> bool:
            try:
                return self.status().host.start_time != before
            except grpc.RpcError:  # a call that the old program did not come to
                return False

        until(anew, "the new program")

    def left(self) -> list[str]:
        """List what is there of it and its engines: nothing, once it is stopped."""
        uid = pwd.getpwnam(self.account.user).pw_uid
        alive = [stat for stat in processes() if not stat.dead and pathlib.Path(f"/proc/{stat.identity.pid}").exists()]
        ours = [stat for stat in alive if stat.name.startswith(("vllmd", "VLLM::")) or marker(stat.identity.pid)]
        shared = pathlib.Path("/dev/shm").glob("*vllmd*")
        paths = [path for path in (self.account.runtime, *shared) if path.exists() and path.stat().st_uid == uid]
        groups = pathlib.Path("/sys/fs/cgroup").rglob("engine-*")
        return [*(f"{stat.identity.pid} {stat.name}" for stat in ours), *map(str, (*paths, *groups))]

    def close(self) -> None:
        """Stop it, whatever its state."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        self.systemctl("stop")
        self.systemctl("reset-failed")
        for stat in processes():
            if marker(stat.identity.pid) and not stat.dead:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(stat.identity.pid, signal.SIGKILL)


def set_up(options: str = _SIMULATED, service: str = "", programs: str = PACKAGED) -> Unit:
    """Have the system's unit run with options, and start it; see `unit`."""
    _DROP_INS.mkdir(parents=True, exist_ok=True)
    command = f"{programs}/vllmd --socket-group vllmd --admin-group vllmd-admin"
    start = f"ExecStart=\nExecStart={command} {options}"
    (_DROP_INS / "checks.conf").write_text(f"[Service]\n{start}\nWatchdogSec=3\n{service}\n")
    run("systemctl", "daemon-reload")
    made = Unit()
    made.start()
    return made


@contextlib.contextmanager
def unit(options: str = "", service: str = "", programs: str = PACKAGED, simulated: bool = True) -> Iterator[Unit]:
    """The system's unit, started, and stopped afterwards.

    Args:
        options: more of the daemon's options.
        service: more lines for the unit's section `[Service]`.
        programs: where those are that it runs.
        simulated: whether host and engines are.
    """
    opened = Unit()
    try:
        opened = set_up(f"{_SIMULATED} {options}" if simulated else options, service, programs)
        yield opened
    finally:
        opened.close()
        shutil.rmtree(_DROP_INS)
        run("systemctl", "daemon-reload")


def entries(*matches: str) -> list[dict[str, Any]]:
    """Read entries of the journal, by its fields."""
    run("journalctl", "--sync")
    found = run("journalctl", "--no-pager", "-b", "-o", "json", *matches).stdout
    return [json.loads(line) for line in found.splitlines()]


def status_of(pid: int, name: str) -> str:
    """Read a line of `/proc/PID/status`."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:"))
