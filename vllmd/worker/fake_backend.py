"""A stand-in for vLLM: a real process tree with vLLM's process names and log lines, and no model.

Everything that vllmd does with processes can so be tried without a GPU, a model or vLLM. Its engine arguments
all begin with `fake_` (see `FakeOptions`); any others are accepted and ignored, as plans for real engines
hold them, but for `gpu_memory_utilization`: on a simulated host it holds as much of its GPUs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable

import msgspec

from . import fake_generation, fake_inputs
from .adapters import Adapters
from .backend import EngineDead, Output
from .fake_memory import DEFAULT_UTILIZATION, WEIGHTS, FakeMemory, memory_of, parts
from .fake_text import VOCABULARY
from .processes import read_stat
from .protocol import Answer, Detokenize, Embed, Generate, Question, Tokenize
from .report import EngineInfo, Measured
from .simulation import OutOfMemory
from .spec import Spec

PHASES = ("importing", "loading_weights", "compiling", "profiling", "capturing_graphs")
"""The phases that a start goes through, in order, and at which it can be told to fail or hang."""

_LINES = {
    "importing": "INFO [fake_backend.py] Initializing a fake engine",
    "loading_weights": "INFO [gpu_model_runner.py] Starting to load model",
    "compiling": "INFO [backends.py] Dynamo bytecode transform time: 0.1 s",
    "profiling": "INFO [monitor.py] torch.compile took 0.2 s in total",
    "capturing_graphs": "Capturing CUDA graphs (decode, FULL):  50%|#####     | 1/2 [00:00<00:00]",
}
_SHARDS = 4
_HANG_SECONDS = 0.05
"""How often a core that was stopped is looked at."""
_HELD = {"loading_weights": WEIGHTS, "profiling": 1.0}
"""How much of its GPU memory the engine has taken from a phase on."""


class FakeOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename=lambda name: f"fake_{name}"):
    """How a fake engine behaves."""

    load_seconds: float = 0.2
    """How long the whole start takes, spread over its phases."""
    fail_phase: str = ""
    """The phase in which the start fails; empty for none."""
    error: str = "ValueError: the fake engine was told to fail"
    """What EngineCore logs when it fails."""
    hang_phase: str = ""
    """The phase in which the start hangs; empty for none."""
    tokens_per_second: float = 100.0
    """Of each stream; 0 for as fast as the worker can."""
    tokens_until_eos: int = 0
    """After how many tokens a generation stops by itself; 0 for never."""
    generation_error: str = ""
    """What it fails with at each generation, as by a mistake of its own; empty for nothing."""
    ignore_sigterm: bool = False
    """Neither the worker nor the core heeds SIGTERM."""
    leave_core: bool = False
    """A clean shutdown leaves EngineCore behind, as `kill -9` of `vllm serve` does."""
    escape: bool = False
    """EngineCore moves to a session of its own."""
    workers: int = 0
    """`VLLM::Worker_TPn` processes below EngineCore; 0 for none, as vLLM with TP=1 on a GPU."""
    shared_memory_bytes: int = 1 << 20
    """Of the shared-memory object that EngineCore makes; 0 for none."""
    vram_bytes: int | None = None
    """What it takes of each GPU, in place of `gpu_memory_utilization`; without a simulated host it only says so."""
    matryoshka: bool = False
    """Its vectors may be shortened; it makes any with the engine argument `runner` as `pooling`."""
    vram_growth_bytes: int = 0
    """On a simulated host: what it leaks on each GPU, a second, once it is ready; 0 for nothing."""


class Steps:
    """The engine's steps: in each, every running stream gets one token, as in vLLM.

    Args:
        rate: steps a second; 0 for as many as there can be.
        hangs: tells whether EngineCore is stopped: then no step ends.
    """

    def __init__(self, rate: float, hangs: Callable[[], bool] = lambda: False) -> None:
        self._hangs = hangs
        self._period = 1 / rate if rate else 0.0
        self._last = 0.0
        self._event: asyncio.Event | None = None

    async def next(self) -> None:
        """Wait for the end of the next step."""
        if self._event is None:
            self._event = asyncio.Event()
            loop = asyncio.get_running_loop()
            self._last = max(self._last + self._period, loop.time())
            loop.call_at(self._last + self._period, self._end)
        await self._event.wait()

    def _end(self) -> None:
        if self._hangs():
            asyncio.get_running_loop().call_later(_HANG_SECONDS, self._end)
            return
        event, self._event = self._event, None
        assert event is not None
        event.set()


class FakeBackend:
    """The fake engine; see `backend.Backend`."""

    def __init__(self) -> None:
        self._options = FakeOptions()
        self._steps = Steps(self._options.tokens_per_second)
        self._core: subprocess.Popen[bytes] | None = None
        self._memory: FakeMemory | None = None
        self._sizes: dict[str, int] = {}
        self._adapters = Adapters()
        self._model = fake_generation.FakeModel(4096, "fcfs", 0)

    def load(self, spec: Spec) -> EngineInfo:
        """Start the fake's processes and go through the phases of a start."""
        fake = {name: value for name, value in spec.engine_args.items() if name.startswith("fake_")}
        self._adapters = Adapters(spec.lora, lambda name, *_: name)
        self._options = options = msgspec.convert(fake, FakeOptions, strict=False)
        self._steps = Steps(options.tokens_per_second, self._core_hangs)
        if options.ignore_sigterm:
            ignore_sigterm()
        for phase in PHASES:
            print(_LINES[phase], flush=True)
            if phase == "loading_weights":
                self._core = start_core(spec.engine_id, options)
                share = float(spec.engine_args.get("gpu_memory_utilization") or DEFAULT_UTILIZATION)
                self._memory = memory_of(self._core.pid, share, options.vram_bytes)
            if phase in _HELD:
                self._hold(_HELD[phase])
            self._spend(phase, options.load_seconds / len(PHASES))
        if self._memory is not None and options.vram_growth_bytes:
            self._memory.grow(options.vram_growth_bytes)
        names = ("max_num_seqs", "max_num_batched_tokens")
        self._sizes = {name: int(spec.engine_args[name]) for name in names if spec.engine_args.get(name)}
        max_model_len = int(spec.engine_args.get("max_model_len") or 0)
        self._model = model = fake_generation.FakeModel(
            max_model_len if max_model_len > 0 else 4096,
            str(spec.engine_args.get("scheduling_policy") or "fcfs"),
            options.tokens_until_eos,
        )
        return EngineInfo(
            vllm_version="fake",
            max_model_len=model.max_model_len,
            kv_cache_tokens=65536,
            dtype="bfloat16",
            vocab_size=VOCABULARY,
            runner_type="pooling" if spec.engine_args.get("runner") == "pooling" else "generate",
        )

    def _spend(self, phase: str, seconds: float) -> None:
        if phase == self._options.hang_phase:
            time.sleep(1e6)
        for shard in range(_SHARDS):
            if phase == "loading_weights":
                done = (shard + 1) * 100 // _SHARDS
                print(
                    f"Loading safetensors checkpoint shards: {done:3d}% Completed | {shard + 1}/{_SHARDS}", flush=True
                )
            self._wait_for_core(seconds / _SHARDS)
        if phase == self._options.fail_phase:
            raise _failed(self._options.error)

    def _hold(self, fraction: float) -> None:
        """Take so much of the GPU memory, or fail as vLLM does where it is not free."""
        if self._memory is None:
            return
        try:
            with contextlib.suppress(ProcessLookupError):  # a dead core is noticed where it is waited for
                self._memory.hold(fraction)
        except OutOfMemory as error:
            raise _failed(f"torch.OutOfMemoryError: {error}") from None

    def _wait_for_core(self, seconds: float) -> None:
        """Spend the time, but notice a dead core at once, as vLLM does during a start."""
        if self._core is None:
            time.sleep(seconds)
            return
        try:
            status = self._core.wait(seconds)
        except subprocess.TimeoutExpired:
            return
        raise RuntimeError(f"Engine core initialization failed. Failed core proc(s): {{'EngineCore': {status}}}")

    async def add_adapters(self) -> None:
        """Take any adapter for one that can be loaded."""

    async def measure(self, log: pathlib.Path) -> Measured:
        """Divide what it holds on one GPU as vLLM would; without a GPU there is nothing to divide."""
        del log
        held = self._memory.most_bytes if self._memory is not None else self._options.vram_bytes
        return Measured(**self._sizes, **(parts(held) if held is not None else {}))

    def capabilities(self) -> tuple[str, ...]:
        """Nothing beyond generation."""
        return ("fake",)

    async def generate(self, request: Generate) -> AsyncIterator[Output]:
        """Count up in words, at the rate that was set; the words are an adapter's name where one is used."""
        self._adapters.request(request.lora)
        if self._options.generation_error:
            raise RuntimeError(self._options.generation_error)
        prompt_tokens = len(fake_inputs.words(request.prompt))
        async with contextlib.aclosing(
            fake_generation.generate(request, self._model, prompt_tokens, self._step)  # type: ignore[type-var]
        ) as outputs:
            async for output in outputs:
                yield output

    async def _step(self) -> None:
        await self._steps.next()
        death = self.death()
        if death is not None:
            raise EngineDead(death)

    async def answer(self, question: Question) -> Answer:
        """Answer at once, but for vectors: those take a step, as a prompt does."""
        match question:
            case Tokenize():
                return fake_inputs.tokenize(question)
            case Detokenize():
                return fake_inputs.detokenize(question)
            case Embed():
                await self._step()
                return fake_inputs.embed(question, self._options.matryoshka)

    async def ping(self) -> None:
        """Answer once EngineCore could."""
        while self._core_hangs():
            await asyncio.sleep(_HANG_SECONDS)

    def _core_hangs(self) -> bool:
        stat = read_stat(self._core.pid) if self._core is not None else None
        return stat is not None and stat.state in "Tt"

    def death(self) -> str | None:
        """Say that the core is gone, if it is."""
        status = self._core.poll() if self._core is not None else None
        return None if status is None else f"EngineCore ended with status {status}"

    def shutdown(self) -> None:
        """End the core, unless it was told to stay."""
        if self._core is None or self._options.leave_core:
            return
        self._core.terminate()
        try:
            self._core.wait(5)
        except subprocess.TimeoutExpired:
            self._core.kill()
            self._core.wait()


def _failed(error: str) -> RuntimeError:
    """Log an error as EngineCore's, and make the one that is all that the worker learns of it."""
    print(f"(EngineCore pid={os.getpid()}) ERROR 01-01 00:00:00 [core.py:1] {error}", flush=True)
    return RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {}")


def start_core(engine_id: str, options: FakeOptions) -> subprocess.Popen[bytes]:
    """Start a process that calls itself `VLLM::EngineCore`, with its workers below it; waits until they do."""
    script = pathlib.Path(__file__).with_name("fake_core.py")
    # The first argument is only a name here, so Python has to be told where its library is.
    environment = os.environ | {"PYTHONHOME": f"{sys.base_prefix}:{sys.base_exec_prefix}"}
    ended, ready = os.pipe()
    argv = ["VLLM::EngineCore", "-S", str(script), engine_id, msgspec.json.encode(options).decode(), str(ready)]
    core = subprocess.Popen(argv, executable=sys.executable, env=environment, pass_fds=(ready,))
    os.close(ready)
    os.read(ended, 1)  # until all of them have closed it, or died
    os.close(ended)
    return core


def ignore_sigterm() -> None:
    """Have this process shrug off SIGTERM, for as long as it lives."""
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
