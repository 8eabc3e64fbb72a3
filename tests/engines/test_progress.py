from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllmd.engines.progress import LoadProgress, Phase, advance
from vllmd.worker.spec import Progress

LINES = {
    "(EngineCore pid=7) INFO 11-23 15:43:46 [gpu_model_runner.py:4] Starting to load model m...": Phase.LOADING_WEIGHTS,
    "Loading safetensors checkpoint shards:   0% Completed | 0/4 [00:00<?, ?it/s]": Phase.LOADING_WEIGHTS,
    "Loading pt checkpoint shards: 100% Completed | 2/2 [00:01<00:00,  1.2it/s]": Phase.LOADING_WEIGHTS,
    "INFO 11-23 15:43:46 [backends.py:548] Dynamo bytecode transform time: 4.55 s": Phase.COMPILING,
    "INFO 11-23 15:43:46 [backends.py:215] Compiling a graph for dynamic shape takes 12.1 s": Phase.COMPILING,
    "INFO 11-23 15:43:46 [monitor.py:34] torch.compile takes 16.7 s in total": None,
    "INFO 11-23 15:43:46 [monitor.py:34] torch.compile took 16.7 s in total": Phase.PROFILING,
    "INFO 11-23 15:43:46 [gpu_worker.py:276] Available KV cache memory: 12.91 GiB": Phase.PROFILING,
    "INFO 11-23 15:43:46 [kv_cache_utils.py:1087] GPU KV cache size: 105,744 tokens": Phase.PROFILING,
    "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  50%|#####     | 33/67": Phase.CAPTURING_GRAPHS,
    "Capturing CUDA graphs (decode, FULL):   3%|▎         | 1/35 [00:00<00:05]": Phase.CAPTURING_GRAPHS,
    "INFO 11-23 15:43:46 [utils.py:1] something else": None,
}


@pytest.mark.parametrize(("line", "phase"), LINES.items())
def test_phase_is_read_from_what_vllm_prints(line: str, phase: Phase | None) -> None:
    """A line that says nothing of the progress leaves it as it was."""
    before = LoadProgress(Phase.INITIALIZING, message="building the engine")
    after = advance(before, (), [line])

    assert after == before if phase is None else after.phase is phase


def test_share_of_the_weights_is_told() -> None:
    """People see how far the longest part of a start is."""
    line = "Loading safetensors checkpoint shards:  25% Completed | 1/4 [00:00<00:01]"

    assert advance(LoadProgress(), (), [line]) == LoadProgress(Phase.LOADING_WEIGHTS, 0.25, "loading weights 1/4")


def test_share_that_is_known_stays_known() -> None:
    """A line that does not tell it takes nothing away, and past the weights all of them are there."""
    shards = "Loading safetensors checkpoint shards:  25% Completed | 1/4"
    loading = advance(LoadProgress(), (), [shards, "Starting to load model m..."])
    compiling = advance(loading, (), ["Dynamo bytecode transform time: 4.55 s"])

    assert loading.weights_fraction == 0.25
    assert compiling.weights_fraction == 1.0


def test_worker_tells_the_rest() -> None:
    """Before the log says anything the worker does, and at the end."""
    started = advance(LoadProgress(), [Progress("started", 1)], ())
    importing = advance(started, [Progress("started", 1), Progress("importing", 1)], ())
    done = advance(importing, [Progress("listening", 1)], ())

    assert [started.phase, importing.phase, done.phase] == [Phase.SPAWNING, Phase.IMPORTING, Phase.DONE]
    assert done.weights_fraction == 1.0


def test_failure_is_no_progress() -> None:
    """How far it had come stays to be seen."""
    progress = LoadProgress(Phase.COMPILING, 1.0, "torch.compile")

    assert advance(progress, [Progress("failed", 1, 0, ("ValueError: no",))], ()) == progress


@given(
    st.lists(st.sampled_from([*LINES, "started", "importing", "initializing"]), max_size=12),
    st.sampled_from(Phase),
)
def test_progress_never_goes_back(what: list[str], phase: Phase) -> None:
    """Lines of several processes come in any order; a bar on a screen does not jump back for that."""
    progress = LoadProgress(phase)
    for one in what:
        later = advance(progress, (), [one]) if one in LINES else advance(progress, [Progress(one, 1)], ())  # type: ignore[arg-type]

        assert later.phase >= progress.phase
        progress = later
