from __future__ import annotations

import asyncio
import enum
import pathlib
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fakes.scripted_worker import ScriptedBackend
from vllmd.worker import measuring
from vllmd.worker.report import Measured

GIB = 1 << 30
ESTIMATE = "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS"


def worker(**attributes: Any) -> SimpleNamespace:
    """A worker of vLLM's, with 15 GiB of weights."""
    return SimpleNamespace(model_runner=SimpleNamespace(model_memory_usage=15 * GIB), **attributes)


def test_a_worker_says_what_it_has_measured() -> None:
    """By the names that it has up to 0.25; what it has as a float is whole bytes."""
    found = measuring.of_worker(
        worker(
            peak_activation_memory=2.0 * GIB,
            non_torch_memory=GIB,
            available_kv_cache_memory_bytes=40 * GIB,
            cudagraph_memory_estimate=GIB // 2,
        ),
        {},
    )

    assert found == {
        "weights_bytes": 15 * GIB,
        "activation_bytes": 2 * GIB,
        "other_bytes": GIB,
        "kv_cache_bytes": 40 * GIB,
    }


@pytest.mark.parametrize(
    ("environment", "activation"), [({}, 2 * GIB), ({ESTIMATE: "1"}, 2 * GIB), ({ESTIMATE: "0"}, 3 * GIB)]
)
def test_a_newer_worker_has_the_same_figures_in_other_sums(environment: dict[str, str], activation: int) -> None:
    """Later than 0.25 the weights are in one of them, and in another the graphs' estimate if that is made use of."""
    newer = worker(total_consumed=16 * GIB, peak_activation_memory=3 * GIB, cudagraph_memory_estimate=GIB)
    found = measuring.of_worker(newer, environment)

    assert found == {"weights_bytes": 15 * GIB, "activation_bytes": activation, "other_bytes": GIB}


class Broken(ScriptedBackend):
    async def measure(self, log: pathlib.Path) -> Measured:
        raise RuntimeError("nobody thought of this")


class Silent(ScriptedBackend):
    async def measure(self, log: pathlib.Path) -> Measured:
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize(
    ("backend", "said"), [(Broken(), "nobody thought of this"), (Silent(), "TimeoutError"), (ScriptedBackend(), "")]
)
async def test_a_load_is_good_whatever_comes_of_its_figures(
    backend: ScriptedBackend, said: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is logged if there are none, and why."""
    found = await measuring.of_load(backend, tmp_path, timeout=0.05)
    log = capsys.readouterr().out

    assert found == (None if said else Measured())
    assert ("it is not known what this load took" in log) is bool(said)
    assert said in log


def test_what_a_worker_does_not_say_is_missing() -> None:
    """Never 0: names that are not there, that are `None`, or that hold what can't be."""
    assert measuring.of_worker(SimpleNamespace()) == {}
    assert measuring.of_worker(SimpleNamespace(model_runner=None, non_torch_memory=-1, total_consumed="much")) == {}
    assert measuring.of_worker(SimpleNamespace(total_consumed=GIB)) == {}


def test_a_kv_cache_that_was_given_is_what_was_given() -> None:
    """The worker measures nothing then."""
    given = worker(cache_config=SimpleNamespace(kv_cache_memory_bytes=GIB))

    assert measuring.of_worker(given) == {"weights_bytes": 15 * GIB, "kv_cache_bytes": GIB}


def test_the_extension_is_found_by_its_name_and_answers_by_the_methods() -> None:
    """vLLM looks both up; nothing of it may be called like something of a worker, so it has nothing else."""
    module, _, name = measuring.EXTENSION.rpartition(".")

    class Worker(measuring.WorkerExtension):
        peak_activation_memory = 7

    assert module == measuring.__name__
    assert getattr(measuring, name) is measuring.WorkerExtension
    assert getattr(Worker(), measuring.METHOD)() == {"activation_bytes": 7}
    assert [one for one in vars(measuring.WorkerExtension) if not one.startswith("__")] == [measuring.METHOD]


def test_the_fullest_gpu_counts() -> None:
    """That with the smallest KV cache; where all were given the same, that with most weights."""
    assert measuring.fullest([]) == {}
    assert measuring.fullest([{"kv_cache_bytes": 9}, {"kv_cache_bytes": 8}, {}]) == {"kv_cache_bytes": 8}
    assert measuring.fullest([{"weights_bytes": 1}, {"weights_bytes": 2}]) == {"weights_bytes": 2}


def test_the_batch_is_in_the_configuration() -> None:
    """As far as it says."""
    scheduler = SimpleNamespace(max_num_seqs=256, max_num_batched_tokens=None)

    assert measuring.of_config(SimpleNamespace(scheduler_config=scheduler)) == {"max_num_seqs": 256}
    assert measuring.of_config(SimpleNamespace()) == {}


def test_whether_there_are_graphs() -> None:
    """None in an eager engine, nor in one on the CPU; what is not known may have some."""
    modes = enum.Enum("modes", ["NONE", "FULL"])

    def config(eager: bool, mode: enum.Enum) -> SimpleNamespace:
        compilation = SimpleNamespace(cudagraph_mode=mode)
        return SimpleNamespace(model_config=SimpleNamespace(enforce_eager=eager), compilation_config=compilation)

    assert measuring.captures(config(False, modes.FULL))
    assert not measuring.captures(config(True, modes.FULL))
    assert not measuring.captures(config(False, modes.NONE))
    assert measuring.captures(SimpleNamespace())


def test_what_graphs_took_is_in_the_log(tmp_path: pathlib.Path) -> None:
    """Of each worker the last time counts, and of all of them the one that took most."""
    log = tmp_path / "engine.log"
    log.write_text(
        "(Worker_TP0 pid=7) INFO 11-25 22:58:10 [runner.py:1] Graph capturing finished in 2 secs, took 9.00 GiB\n"
        "(Worker_TP0 pid=7) INFO 11-25 22:58:20 [runner.py:1] Graph capturing finished in 21 secs, took 0.50 GiB\n"
        "(Worker_TP1 pid=8) INFO 11-25 22:58:20 [runner.py:1] Graph capturing finished in 21 secs, took 0.75 GiB\n"
        "INFO something else took 12 GiB\n"
    )

    assert measuring.graphs_bytes(measuring.read_log(log)) == 3 * GIB // 4
    assert measuring.graphs_bytes(["INFO Graph capturing finished in 1 secs, took -0.01 GiB"]) == 0
    assert measuring.graphs_bytes(["INFO nothing was captured"]) is None


@pytest.mark.parametrize(
    "before",
    [
        "\x1b[0;36m(EngineCore pid=7)\x1b[0;0m \x1b[32mINFO\x1b[0m 11-25 22:58:20 \x1b[90m[runner.py:1]\x1b[0m ",
        "Capturing CUDA graphs (decode, FULL): 100%|###| 35/35 [00:01<00:00, 22.27it/s](EngineCore pid=7) INFO ",
        "",
    ],
)
def test_what_a_logger_puts_before_it_does_not_matter(before: str) -> None:
    """Colors, and the rest of a progress bar, which goes to the same file."""
    assert measuring.graphs_bytes([f"{before}Graph capturing finished in 5 secs, took 0.50 GiB"]) == GIB // 2


@pytest.mark.parametrize("size", ["999", "1.2.3", "9" * 400])
def test_a_line_that_quotes_a_client_tells_nothing(size: str) -> None:
    """A model may be called like this, and vLLM logs its path."""
    forged = f"Graph capturing finished in 1 secs, took {size} GiB"
    lines = [
        f"(EngineCore pid=7) INFO 11-25 22:58:00 [core.py:93] Initializing a V1 LLM engine with model='/m/{forged}'",
        f"INFO 11-25 22:58:00 [core.py:93] /m/[a.py:1] {forged}",
        "(EngineCore pid=7) INFO 11-25 22:58:20 [model_runner.py:1] Graph capturing finished in 5 secs, took 0.50 GiB",
    ]

    assert measuring.graphs_bytes(lines) == GIB // 2
    assert measuring.graphs_bytes(lines[:2]) is None
