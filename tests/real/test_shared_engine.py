"""What a client gets from a real engine, and what becomes of it when the engine is killed."""

from __future__ import annotations

import concurrent.futures
import json
import pathlib
import subprocess
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.host.running import Home, RunningDaemon, cores_of, identity_of, kill, until
from tests.real.conftest import ENGINE_ARGS, LOAD_SECONDS, direct_run
from vllmd.v1 import engine_pb2, generation_pb2
from vllmd.v1.engine_service_pb2 import (
    GenerateRequest,
    LoadedModel,
    LoadModelRequest,
)
from vllmd.v1.host_service_pb2 import ListProfilesRequest

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(LOAD_SECONDS + 100), pytest.mark.xdist_group("vllm-shared")]

PROMPTS = [[3 + (7 * index + step) % 500 for step in range(5 + index % 11)] for index in range(32)]
MAX_TOKENS = 24


@pytest.fixture(scope="module")
def reference(
    engine_python: str, model: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[subprocess.Popen[str]]:
    """A direct run of `AsyncLLM`, started before the daemon's engine so that both load at once."""
    job = json.dumps({"prompts": PROMPTS, "max_tokens": MAX_TOKENS, "engine_args": ENGINE_ARGS})
    directory = tmp_path_factory.mktemp("reference")
    with direct_run(engine_python, "reference.py", model, job, directory=directory) as process:
        yield process


def tokens_of(call: Any) -> list[int]:
    """Read a generation to its end."""
    return [token for response in call for token in response.token_ids]


def start(daemon: RunningDaemon, loaded: LoadedModel, prompt: list[int], max_tokens: int = MAX_TOKENS) -> Any:
    """Begin a greedy generation."""
    request = GenerateRequest(lease=loaded.lease.name)
    request.tokens.token_ids.extend(prompt)
    request.sampling_params.CopyFrom(
        generation_pb2.SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True)
    )
    return daemon.engines.Generate(request, timeout=120)


def test_concurrent_greedy_streams_equal_a_direct_run(
    reference: subprocess.Popen[str], daemon: RunningDaemon, loaded: LoadedModel
) -> None:
    """32 streams through the daemon have the tokens that `AsyncLLM` gives without it."""
    calls = [start(daemon, loaded, prompt) for prompt in PROMPTS]
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        through_daemon = list(pool.map(tokens_of, calls))
    output, _ = reference.communicate(timeout=LOAD_SECONDS)
    results = [line[7:] for line in output.splitlines() if line.startswith("RESULT ")]
    assert results, output
    direct = json.loads(results[0])

    assert direct == through_daemon
    assert {MAX_TOKENS} == {len(ids) for ids in through_daemon}


def test_the_engine_says_what_vllm_measured(place: Home, daemon: RunningDaemon, loaded: LoadedModel) -> None:
    """On the CPU that is what it gives to the KV cache; nothing is remembered of it, as it takes nothing of a GPU."""
    report = daemon.engine(loaded.engine.name).report
    log = (place.path / "e" / loaded.engine.name.removeprefix("engines/") / "engine.log").read_text()

    assert report.measured_memory.kv_cache_bytes == ENGINE_ARGS["kv_cache_memory_bytes"]
    assert f"max_num_seqs={ENGINE_ARGS['max_num_seqs']}" in log
    assert not daemon.host.ListProfiles(ListProfilesRequest()).profiles


def test_cancelled_streams_leave_the_others_unharmed(daemon: RunningDaemon, loaded: LoadedModel) -> None:
    """Half of the streams are cancelled half-way; the rest have the tokens that they have alone."""
    alone = {index: tokens_of(start(daemon, loaded, PROMPTS[index], 200)) for index in (0, 2)}
    calls = [start(daemon, loaded, prompt, 200) for prompt in PROMPTS]
    first = [list(next(call).token_ids) for call in calls]
    for call in calls[1::2]:
        call.cancel()
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        rest = list(pool.map(tokens_of, calls[::2]))
    whole = [begun + more for begun, more in zip(first[::2], rest, strict=True)]
    until(lambda: daemon.engine(loaded.engine.name).running_count == 0, "the end of what was cancelled")

    assert whole[0] == alone[0]
    assert whole[1] == alone[2]
    assert {len(ids) for ids in whole} == {200}


def test_chat_text_and_tokens_are_prompts(daemon: RunningDaemon, loaded: LoadedModel) -> None:
    """Each kind of prompt is generated from, and usage and timings come with the last response."""
    requests = [GenerateRequest(lease=loaded.lease.name, text="hello the quick brown fox")]
    requests.append(GenerateRequest(engine=loaded.engine.name))
    requests[-1].chat.messages.add(role="user", content="hello")
    for request in requests:
        request.sampling_params.max_tokens = 5
        request.sampling_params.ignore_eos = True
        *_, last = daemon.engines.Generate(request, timeout=60)

        assert last.finish_reason == generation_pb2.FINISH_REASON_LENGTH
        assert last.usage.completion_tokens == 5
        assert last.usage.prompt_tokens > 0
        assert last.timings.total.ToTimedelta() >= last.timings.time_to_first_token.ToTimedelta()


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": {"token_ids": [100_000]}},
        {"tokens": {"token_ids": [5] * 600}},
        {"text": "x", "sampling_params": {"temperature": -1.0}},
        {"text": "x", "sampling_params": {"top_p": 7.0}},
    ],
)
def test_a_request_that_vllm_refuses_is_the_clients_error(
    daemon: RunningDaemon, loaded: LoadedModel, change: dict[str, Any]
) -> None:
    """The client is told what is wrong, and the engine goes on."""
    with pytest.raises(grpc.RpcError) as raised:
        list(daemon.engines.Generate(GenerateRequest(lease=loaded.lease.name, **change), timeout=60))

    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert len(tokens_of(start(daemon, loaded, PROMPTS[0]))) == MAX_TOKENS


def test_a_start_that_vllm_refuses_says_why(place: Home, daemon: RunningDaemon, model: pathlib.Path) -> None:
    """The error has vLLM's own words, and nothing is left of the try."""
    request = LoadModelRequest(model=str(model), disable_auto_config=True)  # or a plan would refuse it before
    request.engine_args.update({**ENGINE_ARGS, "max_model_len": 1_000_000})
    with pytest.raises(grpc.RpcError) as raised:
        list(daemon.engines.LoadModel(request, timeout=LOAD_SECONDS))

    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "greater than the derived max_model_len" in (raised.value.details() or "")
    assert len(list((place.path / "e").iterdir())) <= 1


def test_a_worker_killed_while_loading_leaves_nothing(
    place: Home, daemon: RunningDaemon, loaded: LoadedModel, model: pathlib.Path
) -> None:
    """EngineCore goes with it, and the call says that the start failed."""
    request = LoadModelRequest(model=str(model))
    request.engine_args.update({**ENGINE_ARGS, "seed": 1})
    call = daemon.engines.LoadModel(request, timeout=LOAD_SECONDS)
    next(call)
    name = next(engine.name for engine in daemon.status().engines if engine.name != loaded.engine.name)
    until(lambda: cores_of(daemon.engine(name).pid), "EngineCore", LOAD_SECONDS)

    kill(identity_of(daemon.engine(name).pid))
    with pytest.raises(grpc.RpcError):
        list(call)

    assert daemon.engine(name).reclaim.verified
    assert place.leftovers(name) == []
    assert len(tokens_of(start(daemon, loaded, PROMPTS[0]))) == MAX_TOKENS


def test_a_killed_daemon_leaves_the_engine_to_the_next(place: Home, daemon: RunningDaemon, loaded: LoadedModel) -> None:
    """What ran is aborted in the engine; the lease, the model and its tokens are as they were."""
    alone = tokens_of(start(daemon, loaded, PROMPTS[0]))
    before = daemon.engine(loaded.engine.name)
    calls = [start(daemon, loaded, prompt, 480) for prompt in PROMPTS[:8]]
    for call in calls:
        next(call)
    daemon.kill()
    second = place.start()
    after = second.engine(loaded.engine.name)

    assert after.state == engine_pb2.Engine.STATE_READY
    assert (after.adopted, after.pid, after.lease_count) == (True, before.pid, before.lease_count)
    assert after.running_count == 0
    assert tokens_of(start(second, loaded, PROMPTS[0])) == alone


def test_a_killed_core_ends_the_streams_and_leaves_nothing(place: Home, loaded: LoadedModel) -> None:
    """Streams end UNAVAILABLE, and the rest of the tree is gone with all that it had."""
    daemon = place.latest
    cores = cores_of(daemon.engine(loaded.engine.name).pid)  # now: to look for them may take as long as the streams do
    calls = [start(daemon, loaded, prompt, 480) for prompt in PROMPTS[:8]]
    for call in calls:
        next(call)

    kill(*cores)
    codes = set()
    for call in calls:
        with pytest.raises(grpc.RpcError) as raised:
            tokens_of(call)
        codes.add(raised.value.code())
    state = engine_pb2.Engine.STATE_FAILED
    until(lambda: daemon.engine(loaded.engine.name).state == state, "the engine's end")

    assert codes == {grpc.StatusCode.UNAVAILABLE}
    assert daemon.engine(loaded.engine.name).reclaim.verified
    assert place.leftovers(loaded.engine.name) == []
    assert daemon.stop() == 0
