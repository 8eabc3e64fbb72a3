from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.fakes.processes import eventually, processes_of
from vllmd.worker.backend import EngineDead, InvalidRequest, Output
from vllmd.worker.fake_backend import PHASES, FakeBackend
from vllmd.worker.processes import processes
from vllmd.worker.protocol import ChatPrompt, Generate, Prompt, TextPrompt, TokenPrompt
from vllmd.worker.simulation import CLAIMS, Memory, Shares, held, publish
from vllmd.worker.spec import ENGINE_ID_VARIABLE, SIMULATION_VARIABLE, Spec
from vllmd.worker.tree import Tree

QUICK = {"fake_load_seconds": 0.0, "fake_tokens_per_second": 0}


@pytest.fixture
def marked(engine_id: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An engine's id, which a process that is started in this test gets as its marker."""
    monkeypatch.setenv(ENGINE_ID_VARIABLE, engine_id)
    yield engine_id
    assert eventually(lambda: not [s for s in processes() if s.parent_pid == os.getpid() and s.name[:6] == "VLLM::"])


@pytest.fixture
def backend(marked: str) -> Iterator[FakeBackend]:
    """A fake engine whose core does not outlive the test."""
    backend = FakeBackend()
    yield backend
    Tree(marked, None, None).kill(5.0)
    backend.death()  # collects the core's exit status


def load(backend: FakeBackend, engine_id: str, **engine_args: Any) -> None:
    """Load it, quickly unless told otherwise."""
    backend.load(Spec(engine_id, "fake", "m", QUICK | engine_args, None, 60.0, "0", "b"))


@pytest.fixture
def simulation(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A simulated host with two GPUs of 1000 bytes, both of them the engine's."""
    publish(tmp_path, {"GPU-SIM-A": Memory(1000, 100), "GPU-SIM-B": Memory(1000, 100)})
    monkeypatch.setenv(SIMULATION_VARIABLE, str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-SIM-A,GPU-SIM-B")
    return tmp_path


def shares(simulation: pathlib.Path) -> list[Shares]:
    """What processes hold on it, by the order of their pids."""
    return [shares for _, shares in sorted(held(simulation / CLAIMS).items(), key=lambda item: item[0].pid)]


async def outputs(backend: FakeBackend, prompt: Prompt, **sampling_params: Any) -> list[Output]:
    """All that it generates."""
    return [output async for output in backend.generate(Generate(1, prompt, sampling_params))]


def test_start_prints_what_vllm_prints(backend: FakeBackend, marked: str, capfd: pytest.CaptureFixture[str]) -> None:
    """In vLLM's order, so that progress is read from it as from the real one."""
    load(backend, marked, max_model_len=128)
    log = capfd.readouterr().out
    marks = ["Initializing", "Starting to load model", "100% Completed | 4/4", "Dynamo", "torch.compile", "CUDA graphs"]

    assert [mark for mark in marks if mark not in log] == []
    assert sorted(marks, key=log.index) == marks


@pytest.mark.parametrize(("asked", "got"), [({"max_model_len": 128}, 128), ({"max_model_len": -1}, 4096), ({}, 4096)])
def test_engine_reports_the_context_that_it_was_given(
    backend: FakeBackend, marked: str, asked: dict[str, int], got: int
) -> None:
    """Or its own, where it was left to choose; what it does not know of it ignores."""
    spec = Spec(marked, "fake", "m", QUICK | asked | {"dtype": "auto"}, None, 60.0, "0", "b")

    assert backend.load(spec).max_model_len == got


@pytest.mark.parametrize("phase", PHASES)
def test_start_fails_in_the_phase_it_is_told_to(
    backend: FakeBackend, marked: str, phase: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The worker learns no more than vLLM would tell it; the cause is in the log alone."""
    with pytest.raises(RuntimeError, match="Engine core initialization failed"):
        load(backend, marked, fake_fail_phase=phase, fake_error="ValueError: because")

    assert capfd.readouterr().out.endswith("[core.py:1] ValueError: because\n")


async def test_start_ends_when_its_core_is_killed(backend: FakeBackend, marked: str) -> None:
    """At once, long before it would have been ready."""
    loading = asyncio.to_thread(load, backend, marked, fake_load_seconds=6.0, fake_leave_core=True)
    start = time.monotonic()

    async def kill_core() -> None:
        assert await asyncio.to_thread(eventually, lambda: "VLLM::EngineCor S" in processes_of(marked))
        Tree(marked, None, None).kill(5.0)

    with pytest.raises(RuntimeError, match=r"\{'EngineCore': -9\}"):
        await asyncio.gather(loading, kill_core())

    assert time.monotonic() - start < 5.0


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        (TextPrompt("one two three"), 3),
        (TokenPrompt([1, 2]), 2),
        (ChatPrompt([{"role": "user", "content": "a b"}, {"role": "assistant", "content": "c"}], {}), 3),
    ],
)
async def test_generation_counts_up_to_what_was_asked_for(
    backend: FakeBackend, marked: str, prompt: Prompt, tokens: int
) -> None:
    """A word and a token id at a time, and the last one says why it is the last."""
    load(backend, marked)
    got = await outputs(backend, prompt, max_tokens=3)

    assert [(output.text, output.token_ids, output.finish_reason) for output in got] == [
        ("w0 ", [0], None),
        ("w1 ", [1], None),
        ("w2 ", [2], "length"),
    ]
    assert {output.prompt_tokens for output in got} == {tokens}


async def test_generation_stops_by_itself_when_told_so(backend: FakeBackend, marked: str) -> None:
    """As a model does that has come to its end."""
    load(backend, marked, fake_tokens_until_eos=2)

    assert [output.finish_reason for output in await outputs(backend, TextPrompt("a"), max_tokens=9)] == [None, "stop"]


async def test_tokens_come_at_the_rate_that_was_set(backend: FakeBackend, marked: str) -> None:
    """Twenty at two hundred a second take a tenth of one."""
    load(backend, marked, fake_tokens_per_second=200)
    start = time.monotonic()
    await outputs(backend, TextPrompt("a"), max_tokens=20)

    assert 0.1 <= time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "message"),
    [
        (TextPrompt("a"), 0, "max_tokens must be at least 1, got 0"),
        (TokenPrompt([1, 1000]), 1, "vocabulary of 1000: 1000"),
    ],
)
async def test_bad_request_is_refused_as_vllm_would(
    backend: FakeBackend, marked: str, prompt: Prompt, max_tokens: int, message: str
) -> None:
    """With a text for the client."""
    load(backend, marked)

    with pytest.raises(InvalidRequest, match=message):
        await outputs(backend, prompt, max_tokens=max_tokens)


async def test_generation_fails_if_told_so(backend: FakeBackend, marked: str) -> None:
    """As by a mistake in vLLM, which is nobody's request's."""
    load(backend, marked, fake_generation_error="out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        await outputs(backend, TextPrompt("a b"))


async def test_death_of_the_core_is_the_engines(backend: FakeBackend, marked: str) -> None:
    """It is told to whoever asks, and ends what is being generated."""
    load(backend, marked)
    generation = backend.generate(Generate(1, TextPrompt("a"), {}))
    await anext(generation)
    alive = backend.death()
    Tree(marked, None, None).kill(5.0)

    with pytest.raises(EngineDead, match="status -9"):
        await anext(generation)
    assert alive is None
    assert backend.death() == f"EngineCore ended with status -{signal.SIGKILL}"


@pytest.mark.parametrize("leave_core", [True, False])
def test_shutdown_ends_the_core_unless_it_is_to_be_left(backend: FakeBackend, marked: str, leave_core: bool) -> None:
    """As a clean exit does, or as one that goes wrong."""
    load(backend, marked, fake_leave_core=leave_core)
    backend.shutdown()

    assert bool(processes_of(marked)) is leave_core


def test_options_of_the_wrong_type_are_refused(backend: FakeBackend, marked: str) -> None:
    """A start that was told nonsense fails, rather than do something else."""
    with pytest.raises(msgspec.ValidationError):
        load(backend, marked, fake_workers="many")


@pytest.mark.parametrize(
    ("engine_args", "expected"),
    [
        ({"gpu_memory_utilization": 0.5}, [{"GPU-SIM-A": 500, "GPU-SIM-B": 500}]),
        ({}, [{"GPU-SIM-A": 900, "GPU-SIM-B": 900}]),
        ({"fake_workers": 2, "fake_vram_bytes": 70}, [{"GPU-SIM-A": 70}, {"GPU-SIM-B": 70}]),
    ],
)
def test_engine_holds_memory_of_simulated_gpus(
    backend: FakeBackend, marked: str, simulation: pathlib.Path, engine_args: dict[str, Any], expected: list[Shares]
) -> None:
    """What it was planned with, or told; its core holds it, or each worker below that a GPU of its own."""
    load(backend, marked, **engine_args)
    loaded = shares(simulation)
    names = {stat.name for stat in processes() if stat.identity in held(simulation / CLAIMS)}

    assert loaded == expected
    assert names == {"VLLM::Worker_TP" if "fake_workers" in engine_args else "VLLM::EngineCor"}


@pytest.mark.parametrize(
    ("phase", "expected"), [("importing", []), ("loading_weights", [30]), ("compiling", [30]), ("profiling", [90])]
)
def test_weights_come_before_the_kv_cache(
    backend: FakeBackend, marked: str, simulation: pathlib.Path, phase: str, expected: list[int]
) -> None:
    """A start that fails has taken what it would have by then: a third, and all of it once memory is profiled."""
    with pytest.raises(RuntimeError, match="initialization failed"):
        load(backend, marked, fake_fail_phase=phase, fake_vram_bytes=90)

    assert [size for each in shares(simulation) for size in each.values()] == [
        size for size in expected for _ in range(2)
    ]


def test_start_fails_where_the_memory_is_not_free(
    backend: FakeBackend, marked: str, simulation: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With PyTorch's words in the log of EngineCore, as when somebody else has been quicker."""
    with pytest.raises(RuntimeError, match="Engine core initialization failed"):
        load(backend, marked, fake_vram_bytes=901)

    assert "[core.py:1] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate" in capfd.readouterr().out
    assert shares(simulation) == [{"GPU-SIM-A": 300, "GPU-SIM-B": 300}]


def test_engine_leaks_when_told_so(backend: FakeBackend, marked: str, simulation: pathlib.Path) -> None:
    """Once it is ready, by so much a second, until a GPU is full."""
    load(backend, marked, fake_vram_bytes=400, fake_vram_growth_bytes=2000)

    assert eventually(lambda: shares(simulation) == [{"GPU-SIM-A": 800, "GPU-SIM-B": 800}], 20.0)


@pytest.mark.parametrize("workers", [0, 2])
async def test_what_it_measured_is_what_it_holds_of_a_gpu(
    backend: FakeBackend, marked: str, simulation: pathlib.Path, workers: int
) -> None:
    """In parts that make up the whole, weights first, as it claimed them; and the batch that it was given."""
    load(backend, marked, gpu_memory_utilization=0.6, fake_workers=workers, max_num_seqs=8)
    told = await backend.measure(simulation)
    sizes = (told.weights_bytes, told.activation_bytes, told.other_bytes, told.kv_cache_bytes, told.graphs_bytes)

    assert sum(size or 0 for size in sizes) == 600
    assert sum(one.get("GPU-SIM-A", 0) for one in shares(simulation)) == 600
    assert told.weights_bytes == 200
    assert (told.max_num_seqs, told.max_num_batched_tokens) == (8, None)


@pytest.mark.parametrize(("told", "weights"), [({}, None), ({"fake_vram_bytes": 3000}, 1000)])
async def test_without_a_gpu_it_measured_what_it_is_told_to_have(
    backend: FakeBackend, marked: str, tmp_path: pathlib.Path, told: dict[str, int], weights: int | None
) -> None:
    """And else nothing."""
    load(backend, marked, **told)

    assert (await backend.measure(tmp_path)).weights_bytes == weights


async def test_an_adapter_answers_in_words_of_its_own(backend: FakeBackend, marked: str) -> None:
    """So that it shows which was used; one that there is not is refused."""
    backend.load(Spec(marked, "fake", "m", QUICK, None, 60.0, "0", "b", lora={"sql": "/a"}))
    await backend.add_adapters()

    async def said(lora: str) -> str:
        request = Generate(1, TextPrompt("a"), {"max_tokens": 2}, lora=lora)
        return "".join([output.text async for output in backend.generate(request)])

    with pytest.raises(InvalidRequest, match="no adapter 'x'"):
        await said("x")

    assert await said("") == "w0 w1 "
    assert await said("sql") == "sql0 sql1 "
