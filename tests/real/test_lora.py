"""LoRA adapters on a real engine: by name, each with an output of its own, and found out early where they are none."""

from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

import grpc
import pytest

from tests import tiny_adapter
from tests.fakes.served import reason_of
from tests.host.running import RunningDaemon, load_request
from tests.real.conftest import ENGINE_ARGS, LOAD_SECONDS
from vllmd.v1 import engine_pb2, generation_pb2
from vllmd.v1.engine_service_pb2 import GenerateRequest, LoadedModel, PlanModelRequest

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(2 * LOAD_SECONDS), pytest.mark.xdist_group("vllm-lora")]

PROMPTS = [[3 + (7 * index + step) % 500 for step in range(5 + index)] for index in range(4)]


@pytest.fixture(scope="module")
def adapters(engine_python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pathlib.Path]:
    """Two adapters of different ranks, and one for a model of another shape."""
    root = tmp_path_factory.mktemp("adapters")
    for name, seed, rank in (("sql", 1, 4), ("poems", 2, 12)):
        tiny_adapter.make_with(engine_python, root / name, seed, rank)
    return {name: root / name for name in ("sql", "poems")}


def asked(model: pathlib.Path, adapters: dict[str, pathlib.Path]) -> Any:
    """Ask for the tiny model with some adapters."""
    request = load_request(str(model), **ENGINE_ARGS)
    request.lora_adapters.extend(engine_pb2.LoraAdapter(name=name, path=str(path)) for name, path in adapters.items())
    return request


@pytest.fixture(scope="module")
def adapted(daemon: RunningDaemon, model: pathlib.Path, adapters: dict[str, pathlib.Path]) -> LoadedModel:
    """An engine with both adapters."""
    *_, last = daemon.engines.LoadModel(asked(model, adapters), timeout=LOAD_SECONDS)
    return last.loaded


def tokens(daemon: RunningDaemon, lease: str, prompt: list[int], lora: str = "") -> list[int]:
    """Generate, greedily."""
    request = GenerateRequest(lease=lease, lora=lora)
    request.tokens.token_ids.extend(prompt)
    request.sampling_params.CopyFrom(generation_pb2.SamplingParams(temperature=0, max_tokens=16, ignore_eos=True))
    return [token for response in daemon.engines.Generate(request, timeout=120) for token in response.token_ids]


def test_each_adapter_has_an_output_of_its_own(daemon: RunningDaemon, adapted: LoadedModel) -> None:
    """And without a name the model answers alone; all in one batch or one after the other."""
    lease = adapted.lease.name
    names = ("", "sql", "poems")
    by_name = {name: [tokens(daemon, lease, prompt, name) for prompt in PROMPTS] for name in names}
    again = {name: [tokens(daemon, lease, prompt, name) for prompt in PROMPTS] for name in names}

    assert by_name == again
    for prompt in range(len(PROMPTS)):
        assert len({tuple(by_name[name][prompt]) for name in names}) == 3


def test_the_engine_is_set_up_for_its_adapters(
    daemon: RunningDaemon, adapted: LoadedModel, adapters: dict[str, pathlib.Path]
) -> None:
    """The rank is rounded up to one that vLLM takes, and each argument has its reason."""
    chosen = {arg.name: arg for arg in adapted.engine.effective_args}

    assert {one.name: one.path for one in adapted.engine.lora_adapters} == {
        name: str(path) for name, path in adapters.items()
    }
    assert chosen["enable_lora"].value.bool_value
    assert chosen["max_lora_rank"].value.number_value == 16
    assert chosen["max_loras"].value.number_value == 2
    assert all(chosen[name].reason for name in ("enable_lora", "max_lora_rank", "max_loras"))


def test_without_a_name_an_engine_with_adapters_answers_as_one_without(
    daemon: RunningDaemon, loaded: LoadedModel, adapted: LoadedModel
) -> None:
    """So that both may share it."""
    plain = [tokens(daemon, loaded.lease.name, prompt) for prompt in PROMPTS]

    assert plain == [tokens(daemon, adapted.lease.name, prompt) for prompt in PROMPTS]


def test_a_name_that_there_is_not_is_told_with_those_that_there_are(
    daemon: RunningDaemon, adapted: LoadedModel
) -> None:
    """Before anything reaches vLLM."""
    with pytest.raises(grpc.RpcError, match="it has poems, sql") as refused:
        tokens(daemon, adapted.lease.name, PROMPTS[0], "sq1")

    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
    assert reason_of(refused.value) == "LORA_NOT_FOUND"


def test_a_plan_is_what_the_load_has_done(
    daemon: RunningDaemon, model: pathlib.Path, adapters: dict[str, pathlib.Path], adapted: LoadedModel
) -> None:
    """And names the engine that would be shared; with another adapter there is none."""
    wanted = asked(model, adapters)
    request = PlanModelRequest(model=wanted.model, engine_args=wanted.engine_args, lora_adapters=wanted.lora_adapters)
    shared = daemon.engines.PlanModel(request, timeout=30)
    request.lora_adapters.add(name="more", path=wanted.lora_adapters[0].path)
    another = daemon.engines.PlanModel(request, timeout=30)
    count = {arg.name: arg.value.number_value for arg in another.effective_args}["max_loras"]

    assert shared.shared_engine == adapted.engine.name
    assert {arg.name: arg for arg in shared.effective_args} == {arg.name: arg for arg in adapted.engine.effective_args}
    assert (another.shared_engine, count) == ("", 3)


def test_an_adapter_that_vllm_can_not_load_fails_the_start(
    daemon: RunningDaemon, model: pathlib.Path, adapters: dict[str, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    """With its name and vLLM's reason; at a request it would end the engine, and with it everybody's requests."""
    odd = tmp_path / "odd"
    shutil.copytree(adapters["sql"], odd)
    config = json.loads((odd / "adapter_config.json").read_text())
    (odd / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))
    with pytest.raises(grpc.RpcError, match=r"DoRA.*LoRA adapter odd") as refused:
        list(daemon.engines.LoadModel(asked(model, {"odd": odd}), timeout=LOAD_SECONDS))

    assert reason_of(refused.value) == "INVALID_LORA"
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
