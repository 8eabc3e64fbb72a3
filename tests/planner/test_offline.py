from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.fakes.fake_pynvml import FakePynvml, NVMLError_GpuIsLost, NVMLError_LibraryNotFound, snapshot_named
from vllmd.errors import InvalidRequest, NotFound, Unavailable
from vllmd.gpu.inventory import Inventory
from vllmd.planner import offline
from vllmd.planner.choice import Infeasible
from vllmd.planner.host_gpus import HostGpus
from vllmd.planner.planning import Plan

MODELS = Path(__file__).parents[1] / "data" / "models"
LLAMA = str(MODELS / "llama-3.1-8b")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, no hub, and no wish for certain GPUs."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def install(monkeypatch: pytest.MonkeyPatch, snapshot: str) -> None:
    """Put a recorded driver in the place of this host's."""
    monkeypatch.setitem(sys.modules, "pynvml", FakePynvml(snapshot_named(snapshot)))


def test_a_folder_with_no_more_than_its_configuration() -> None:
    """What the weights take follows from it; that there are none is told."""
    outcome = offline.work_out(LLAMA, {}, gpus=offline.parse("2xRTX3090"), use_case="production")
    found = json.loads(json.dumps(outcome.document()))

    assert found["feasible"]
    assert found["weights_bytes_per_gpu"] == pytest.approx(8_030_261_248, rel=0.01)
    assert found["kv_cache_bytes_per_token"] == 131072
    assert found["hardware"] == "2x NVIDIA GeForce RTX 3090 (24.0 GiB each)"
    assert found["model"]["architecture"] == "LlamaForCausalLM"
    assert outcome.reasons[-2:] == [
        "weights: there are no weight files, so they are counted from config.json",
        "left to vLLM: max_num_seqs (128), by its defaults",
    ]


def test_a_share_that_leaves_no_room_for_graphs_is_told() -> None:
    """It is kept, as it was set, and how much they take is an estimate."""
    settings = {"gpu_memory_utilization": 0.96, "max_model_len": 2048}
    outcome = offline.work_out(LLAMA, settings, gpus=offline.parse("1xRTX3090"))

    assert outcome.document()["engine_args"]["gpu_memory_utilization"] == 0.96
    assert any("may run out of memory: it comes to" in note for note in outcome.notes)


def test_a_model_in_the_hubs_cache(cache: Path) -> None:
    """By its id, as vLLM finds it."""
    repository = cache / "models--meta--llama"
    snapshot = repository / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123")
    (snapshot / "config.json").write_bytes((MODELS / "llama-3.1-8b" / "config.json").read_bytes())
    outcome = offline.work_out("meta/llama", {}, gpus=offline.parse("1xH100"))

    assert outcome.model == "meta/llama"
    assert outcome.facts is not None
    assert outcome.facts.attention_heads == 32


def test_a_model_that_is_not_here_is_planned_without_its_facts() -> None:
    """Nobody knows then what fits, and the reasons say why."""
    outcome = offline.work_out("nobody/nothing", {}, gpus=offline.parse("1xH100"))

    assert isinstance(outcome.found, Plan)
    assert outcome.document()["kv_cache_tokens"] is None
    assert any("nobody/nothing is not in the hub's cache" in reason for reason in outcome.reasons)


def test_the_hub_is_asked_where_that_can_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from within an event loop, as notebooks have one; offline there is no answer, and that is said."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())

    async def within() -> tuple[object, str]:
        return offline.find("nobody/nothing")

    facts, unknown = asyncio.run(within())

    assert facts is None
    assert unknown.endswith("so nothing is known of it, and the hub was not asked or did not answer")


def test_paths_may_be_relative(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A person types them; what is no folder is a hub id."""
    monkeypatch.chdir(MODELS)
    monkeypatch.setenv("HOME", str(tmp_path))

    assert offline.name_of("llama-3.1-8b") == LLAMA
    assert offline.name_of("./llama-3.1-8b/") == LLAMA
    assert offline.name_of("~/x") == f"{tmp_path}/x"
    assert offline.name_of("a/b/c") == f"{MODELS}/a/b/c"
    assert offline.name_of("Qwen/Qwen3-8B") == "Qwen/Qwen3-8B"
    assert offline.name_of("gpt2") == "gpt2"


@pytest.mark.parametrize("model", ["/nowhere", "./nowhere", "no/such/folder"])
def test_a_folder_that_is_not_there(model: str) -> None:
    """It is an error, and not a model of which nothing is known."""
    with pytest.raises(NotFound) as failed:
        offline.work_out(model, {}, gpus=offline.parse("1xH100"))

    assert failed.value.reason == "MODEL_NOT_FOUND"


@pytest.mark.parametrize("config", ["{}", '{"architectures": ["LlamaForCausalLM"]}', '{"num_attention_heads": "x"}'])
def test_a_configuration_without_the_fields(tmp_path: Path, config: str) -> None:
    """What fits is left to vLLM, and unknown is null."""
    (tmp_path / "config.json").write_text(config)
    found = offline.work_out(str(tmp_path), {}, gpus=offline.parse("2xRTX3090")).document()

    assert found["feasible"]
    assert found["engine_args"]["tensor_parallel_size"] == 1
    assert found["kv_cache_tokens"] is None
    assert found["weights_bytes_per_gpu"] is None
    assert found["notes"][-1].startswith("the model's configuration does not say num_hidden_layers, hidden_size, ")


def test_a_configuration_that_is_none(tmp_path: Path) -> None:
    """It is the caller's mistake."""
    (tmp_path / "config.json").write_text("[]")

    with pytest.raises(InvalidRequest, match="it is not an object"):
        offline.work_out(str(tmp_path), {}, gpus=offline.parse("1xH100"))


def test_heads_that_no_number_of_gpus_divides(tmp_path: Path) -> None:
    """One GPU is what is left; who asks for two is told which sizes there are."""
    config = json.loads((MODELS / "llama-3.1-8b" / "config.json").read_text())
    config |= {"num_attention_heads": 7, "num_key_value_heads": 7, "head_dim": 128, "hidden_size": 896}
    (tmp_path / "config.json").write_text(json.dumps(config))
    gpus = offline.parse("2xRTX3090")
    forced = offline.work_out(str(tmp_path), {"tensor_parallel_size": 2}, gpus=gpus).found

    assert offline.work_out(str(tmp_path), {}, gpus=gpus).document()["engine_args"]["tensor_parallel_size"] == 1
    assert isinstance(forced, Infeasible)
    assert "does not divide the model's 7 attention heads: it can be 1." in forced.message


def test_no_gpu_on_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan is for the CPU, and says how others are named."""
    driver = FakePynvml()
    driver.errors["nvmlInit", None] = NVMLError_LibraryNotFound()
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    outcome = offline.work_out(LLAMA, {}, otherwise="--gpus ")

    assert outcome.document()["engine_args"] == {"kv_cache_memory_bytes": 1 << 30}
    assert "no NVIDIA driver is installed" in outcome.notes[0]
    assert outcome.notes[0].endswith("--gpus 2xRTX3090")


def test_gpus_of_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """With their links, and only those that CUDA would see."""
    install(monkeypatch, "rtx3090-x2-nvlink")

    assert str(offline.detect()).startswith("2x NVIDIA GeForce RTX 3090 (24.0 GiB each, NVLink)")

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [gpu.index for gpu in offline.detect().inventory.gpus] == [1]


def test_slices_are_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine gets one of them, and never two."""
    install(monkeypatch, "h100-x2-mig")
    gpus = HostGpus(Inventory(tuple(gpu for gpu in offline.detect().inventory.gpus if gpu.mig_parent)))
    found = offline.work_out(LLAMA, {"max_model_len": 2048}, gpus=gpus).found
    joined = offline.work_out(LLAMA, {"tensor_parallel_size": 2}, gpus=gpus).found

    assert gpus.count > 1
    assert isinstance(found, Plan)
    assert len(found.gpus) == 1
    assert isinstance(joined, Infeasible)
    assert "An engine can't be divided among MIG slices." in joined.message


def test_gpus_of_two_kinds() -> None:
    """Only such of one kind are taken together, and the reason says so."""
    outcome = offline.work_out(LLAMA, {}, gpus=offline.parse("2xRTX4090,1xH200"))
    products = {gpu.product for gpu in outcome.found.gpus} if isinstance(outcome.found, Plan) else set()

    assert len(products) == 1
    assert any("of 3 GPUs of 2 kinds, only such of one kind" in reason for reason in outcome.reasons)


@pytest.mark.parametrize("failing", ["nvmlInit", "nvmlDeviceGetMemoryInfo"])
def test_gpus_that_can_not_be_read_are_not_taken_for_none(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    """Or a plan for the CPU would be made on a host of GPUs."""
    driver = FakePynvml()
    for index in (None, 0, 1):
        driver.errors[failing, index] = NVMLError_GpuIsLost("GPU is lost")
    monkeypatch.setitem(sys.modules, "pynvml", driver)

    with pytest.raises(Unavailable, match="GPU is lost"):
        offline.work_out(LLAMA, {})


@pytest.mark.parametrize("text", ["2xRTX3099", "RTX3090", "0xH100", "2xL4+nvlink"])
def test_gpus_that_nobody_knows(text: str) -> None:
    """The message is that of the catalogue, with the nearest."""
    with pytest.raises(InvalidRequest) as failed:
        offline.parse(text)

    assert failed.value.reason == "INVALID_GPUS"
