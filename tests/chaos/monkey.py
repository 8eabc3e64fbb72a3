"""Does at random what clients, operators and bad luck do to a daemon. A seed gives the same choices again."""

from __future__ import annotations

import collections
import concurrent.futures
import os
import random
import signal
from collections.abc import Callable
from typing import Any

import grpc

from tests.chaos.checks import tag_of
from tests.host.running import Home, RunningDaemon, load_request
from vllmd.gpu.simulation import Faults, GpuFaults, inject
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1 import host_service_pb2
from vllmd.worker.processes import hold, read_stat

OPTIONS = (
    *("--simulate", "2xRTX3090", "--stall-timeout", "2", "--load-timeout", "8", "--stop-grace", "2"),
    *("--lease-ttl", "3", "--restart-limit", "3", "--reclaim-timeout", "5", "--drain-timeout", "1"),
)
_CALL_SECONDS = 90.0
_MOST_CALLS = 40
_MODELS = 4
_TRIES = 5


class Monkey:
    """One run.

    Args:
        place: where the daemon runs.
        seed: of the choices.
    """

    def __init__(self, place: Home, seed: int) -> None:
        self.place = place
        self.daemon: RunningDaemon = place.start()
        self.did: collections.Counter[str] = collections.Counter()
        self.ends: collections.Counter[str] = collections.Counter()
        """How calls ended, by what they were and their status."""
        self._random = random.Random(seed)
        self._pool = concurrent.futures.ThreadPoolExecutor(_MOST_CALLS)
        self._calls: set[concurrent.futures.Future[None]] = set()
        self._leases: list[str] = []
        self._mends_in = 0
        """After how many actions NVML answers again."""
        self._actions: dict[Callable[[], object], int] = {
            self.load: 30,
            self.generate: 60,
            self.cancel: 15,
            self.release: 10,
            self.kill: 8,
            self.freeze: 3,
            self.stop_engine: 3,
            self.fault: 3,
            self.kill_daemon: 1,
            self.upgrade: 1,
        }

    def act(self) -> bool:
        """Do something; tells whether there was anything to do it to."""
        self._mends_in -= 1
        if self._mends_in == 0:
            self.lift()
        (action,) = self._random.choices(list(self._actions), list(self._actions.values()))
        done = action() is not False
        self.did[action.__name__] += done
        return done

    # What clients do.

    def load(self) -> bool:
        """Ask for a model, which may be slow, fail, hang, or have odd processes."""
        if len(self._calls) >= _MOST_CALLS:
            return False
        choose = self._random
        arguments: dict[str, Any] = {
            "gpu_memory_utilization": choose.choice([0.2, 0.3, 0.45]),
            "fake_load_seconds": choose.choice([0, 0.1, 1]),
            "fake_workers": choose.choice([0, 0, 1]),
            "fake_ignore_sigterm": choose.random() < 0.2,
            "fake_escape": choose.random() < 0.3,
            "fake_leave_core": choose.random() < 0.3,
        }
        if choose.random() < 0.1:
            arguments["fake_fail_phase"] = choose.choice(["loading_weights", "profiling"])
        elif choose.random() < 0.05:
            arguments["fake_hang_phase"] = "compiling"
        request = load_request(f"{tag_of(self.place)}-{choose.randrange(_MODELS)}", **arguments)
        self._call("load", lambda: self._loaded(request))
        return True

    def _loaded(self, request: pb.LoadModelRequest) -> None:
        """Load, and again if the daemon goes away meanwhile, as a client does that is told to."""
        for attempt in range(_TRIES):
            try:
                for update in self.daemon.engines.LoadModel(request, timeout=_CALL_SECONDS, wait_for_ready=True):
                    if update.HasField("loaded"):
                        self._leases.append(update.loaded.lease.name)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or attempt == _TRIES - 1:
                    raise
            else:
                return

    def generate(self) -> bool:
        """Generate on a lease, to the end."""
        if not self._leases or len(self._calls) >= _MOST_CALLS:
            return False
        request = pb.GenerateRequest(lease=self._random.choice(self._leases), text="once upon a time")
        request.sampling_params.max_tokens = self._random.choice([1, 20, 200])
        self._call("generate", lambda: list(self.daemon.engines.Generate(request, timeout=_CALL_SECONDS)))
        return True

    def cancel(self) -> bool:
        """Begin to generate, and give up."""
        if not self._leases or len(self._calls) >= _MOST_CALLS:
            return False
        request = pb.GenerateRequest(lease=self._random.choice(self._leases), text="once upon a time")

        def begin() -> None:
            call = self.daemon.engines.Generate(request, timeout=_CALL_SECONDS)
            next(call)
            call.cancel()

        self._call("cancel", begin)
        return True

    def release(self) -> bool:
        """Release a lease; now and then one that has been released already."""
        if not self._leases:
            return False
        lease = self._random.choice(self._leases)
        if self._random.random() < 0.9:
            self._leases.remove(lease)
        self._call(
            "release", lambda: self.daemon.engines.Release(pb.ReleaseRequest(lease=lease), timeout=_CALL_SECONDS)
        )
        return True

    # What operators do.

    def stop_engine(self) -> bool:
        """Stop an engine whoever uses it."""
        engines = self._engines()
        if not engines:
            return False
        request = host_service_pb2.StopEngineRequest(
            name=self._random.choice(engines), force=self._random.random() < 0.5
        )
        self._call("stop", lambda: self.daemon.host.StopEngine(request, timeout=_CALL_SECONDS))
        return True

    def upgrade(self) -> None:
        """Have the daemon execute its program anew."""
        self.daemon.upgrade()

    # What bad luck does.

    def kill(self) -> bool:
        """SIGKILL any process of any engine."""
        return self._signal(signal.SIGKILL)

    def freeze(self) -> bool:
        """SIGSTOP any process of any engine: it hangs."""
        return self._signal(signal.SIGSTOP)

    def kill_daemon(self) -> None:
        """SIGKILL the daemon, and start another."""
        self.daemon.kill()
        self.daemon = self.place.start()

    def fault(self) -> None:
        """Let the driver be slow to give memory back, or fail for a while."""
        faults = self._random.choice(
            [Faults(linger_seconds=0.5), Faults(linger_seconds=1.0, keep_pid_listed=True), Faults(nvml_error="Unknown")]
        )
        inject(self.place.path / "sim", faults)
        self._mends_in = 6 if faults.nvml_error else 0

    def lift(self) -> None:
        """Let nothing be wrong with the driver any more."""
        inject(self.place.path / "sim", Faults(gpus={"none": GpuFaults()}))

    def _signal(self, signum: signal.Signals) -> bool:
        alive = sorted(self.place.engine_processes(), key=lambda identity: identity.pid)
        if not alive:
            return False
        fd = hold(self._random.choice(alive))
        if fd is None:
            return False
        try:
            signal.pidfd_send_signal(fd, signum)
        except ProcessLookupError:
            return False
        finally:
            os.close(fd)
        return True

    # Calls.

    def _call(self, kind: str, function: Callable[[], object]) -> None:
        future = self._pool.submit(self._ended, kind, function)
        self._calls.add(future)
        future.add_done_callback(self._calls.discard)

    def _ended(self, kind: str, function: Callable[[], object]) -> None:
        try:
            function()
        except grpc.RpcError as error:
            self.ends[f"{kind}: {error.code().name}"] += 1
        except StopIteration:
            self.ends[f"{kind}: OK"] += 1
        else:
            self.ends[f"{kind}: OK"] += 1

    def _engines(self) -> list[str]:
        try:
            engines = self.daemon.status().engines
        except grpc.RpcError:
            return []
        return [engine.name for engine in engines if engine.pid and read_stat(engine.pid) is not None]

    def quiet(self) -> None:
        """Let everything come to its end: all calls, and then all engines, whoever has leases on them."""
        self.lift()
        concurrent.futures.wait(list(self._calls), _CALL_SECONDS)
        assert not self._calls, f"{len(self._calls)} calls have not ended"
        self._leases.clear()
        for engine in self.daemon.status().engines:
            request = host_service_pb2.StopEngineRequest(name=engine.name, force=True)
            self.daemon.host.StopEngine(request, timeout=_CALL_SECONDS)

    def close(self) -> None:
        """Wait for all that was begun."""
        self._pool.shutdown()
