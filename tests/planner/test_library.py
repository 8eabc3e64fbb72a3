from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vllmd.planner
from tests.fakes.fake_gpus import GIB
from tests.fakes.fake_pynvml import FakePynvml, NVMLError_LibraryNotFound, snapshot_named
from vllmd.errors import Exhausted, InvalidRequest, NotFound, NotPossible
from vllmd.gpu import products
from vllmd.gpu.inventory import Inventory
from vllmd.planner import HostGpus, detect_gpus, plan, vllm_is_installed

MODELS = Path(__file__).parents[1] / "data" / "models"
LLAMA = str(MODELS / "llama-3.1-8b")

USE_CASES: dict[str, dict[str, Any]] = {
    "download": {
        "tensor_parallel_size": 1,
        "gpu_memory_utilization": 0.7,
        "max_model_len": 2048,
        "enforce_eager": True,
        "enable_sleep_mode": True,
        "disable_custom_all_reduce": True,
    },
    "production": {
        "tensor_parallel_size": 2,
        "gpu_memory_utilization": 0.9,
        "max_model_len": 8192,
        "enable_chunked_prefill": True,
        "max_num_batched_tokens": 8192,
        "enable_sleep_mode": True,
        "disable_custom_all_reduce": True,
    },
    "debate": {
        "tensor_parallel_size": 1,
        "gpu_memory_utilization": 0.8,
        "max_model_len": 4096,
        "enable_sleep_mode": True,
        "disable_custom_all_reduce": True,
    },
}
"""What the project's first users had on two RTX 3090, to the letter."""


def used(inventory: Inventory, **bytes_by_index: int) -> Inventory:
    """The same GPUs, of which others hold so much."""
    gpus = list(inventory.gpus)
    for name, size in bytes_by_index.items():
        index = int(name.removeprefix("gpu"))
        gpus[index] = dataclasses.replace(
            gpus[index], used_bytes=size, free_bytes=gpus[index].total_bytes - size, uuid=f"GPU-{index}"
        )
    return dataclasses.replace(inventory, gpus=tuple(gpus))


def without_a_driver() -> FakePynvml:
    """NVML as it is on a host without NVIDIA's driver."""
    driver = FakePynvml()
    driver.errors["nvmlInit", None] = NVMLError_LibraryNotFound()
    return driver


@pytest.mark.parametrize("gpus", ["2xRTX3090", "2xRTX3090+nvlink"])
@pytest.mark.parametrize("use_case", USE_CASES)
def test_use_cases_give_what_their_first_users_had(use_case: str, gpus: str) -> None:
    """Exactly these arguments, and no others."""
    assert plan(LLAMA, use_case=use_case, gpus=gpus) == USE_CASES[use_case]


def test_arguments_are_keywords_with_reasons() -> None:
    """They can be passed on, changed before that, and explained."""

    class LLM:
        """Stands for vLLM's."""

        def __init__(self, model: str, **settings: Any) -> None:
            self.settings = settings

    config = plan(LLAMA, use_case="production", gpus="2xRTX3090")
    config["max_model_len"] = 4096

    assert LLM(model=LLAMA, **config).settings == USE_CASES["production"] | {"max_model_len": 4096}
    assert any(reason.startswith("tensor_parallel_size=2: 32 attention heads") for reason in config.reasons)
    assert config.plan.cache is not None
    assert config.plan.cache.bytes_per_token == 131072


def test_gpus_may_be_given_in_any_form() -> None:
    """As a text, as what NVML said, or as what was detected."""
    inventory = products.inventory("2xRTX3090")

    assert plan(LLAMA, gpus=inventory) == plan(LLAMA, gpus=HostGpus(inventory)) == plan(LLAMA, gpus="2xRTX3090")


def test_this_hosts_gpus_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """As NVML has them, and as `CUDA_VISIBLE_DEVICES` leaves them."""
    monkeypatch.setitem(sys.modules, "pynvml", FakePynvml(snapshot_named("rtx3090-x2-nvlink")))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    assert detect_gpus().count == 2
    assert plan(LLAMA, use_case="production")["tensor_parallel_size"] == 2

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert plan(LLAMA, use_case="production")["tensor_parallel_size"] == 1


def test_without_a_gpu_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """With arguments that work there, and the reason."""
    monkeypatch.setitem(sys.modules, "pynvml", without_a_driver())
    config = plan(LLAMA, use_case="production", seed=1)

    assert not detect_gpus()
    assert config == {"seed": 1, "kv_cache_memory_bytes": 1 << 30}
    assert any("no NVIDIA driver is installed" in reason for reason in config.reasons)


def test_an_override_is_kept() -> None:
    """And what depends on it follows."""
    config = plan(LLAMA, use_case="production", gpus="2xRTX3090", max_model_len=4096, tensor_parallel_size=1)

    assert (config["max_model_len"], config["tensor_parallel_size"]) == (4096, 1)
    assert "max_model_len=4096: set by the client" in config.reasons


def test_an_override_that_could_run_code_is_the_scripts_own_affair() -> None:
    """Who starts vLLM in this process trusts it anyway."""
    assert plan(LLAMA, gpus="1xH100", trust_remote_code=True, load_format="my_own")["trust_remote_code"] is True


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            {"tensor_parallel_size": 3},
            "the model's 32 attention heads: it can be 1, 2, 4",
        ),
        ({"max_model_len": 1 << 20}, "it can be up to 131072"),
        ({"use_case": "prodction"}, "the nearest is production"),
        ({"tensor_parallel_size": "two"}, "must be a whole number"),
        ({"dtype": "bfloat17"}, "the nearest is bfloat16"),
        ({"gpus": "2xRTX3099"}, "the nearest is RTX3090"),
    ],
)
def test_an_override_that_can_not_work(overrides: dict[str, Any], words: str) -> None:
    """It is refused with the nearest that does, and never changed."""
    with pytest.raises(InvalidRequest, match=words):
        plan(LLAMA, **{"gpus": "4xRTX3090", **overrides})


def test_what_never_fits() -> None:
    """The error says how much is missing, and what would make it fit."""
    with pytest.raises(NotPossible, match=r"is missing there .* What would make it fit: ") as failed:
        plan(str(MODELS / "llama-3.3-70b"), gpus="2xRTX3090")

    assert failed.value.reason == "MODEL_TOO_LARGE"
    assert int(failed.value.metadata["missing_bytes"]) > 0


def test_all_gpus_full() -> None:
    """It may fit later, which is another error."""
    gpus = used(products.inventory("2xRTX3090"), gpu0=24 * GIB - 1, gpu1=24 * GIB - 1)

    with pytest.raises(Exhausted, match="Stop an engine, or end what else is on it") as failed:
        plan(LLAMA, gpus=gpus)
    assert failed.value.reason == "GPU_MEMORY_EXHAUSTED"


def test_an_unknown_model() -> None:
    """A folder that is not there is no model."""
    with pytest.raises(NotFound):
        plan("/nowhere", gpus="1xH100")


def test_other_gpus_than_the_first_have_to_be_made_visible() -> None:
    """vLLM takes the first that it sees, so the plan says what it has to see."""
    gpus = used(products.inventory("2xRTX3090"), gpu0=20 * GIB, gpu1=GIB)
    config = plan(LLAMA, use_case="debate", gpus=gpus)

    assert config.cuda_visible_devices == "GPU-1"
    assert "for GPU 1: set CUDA_VISIBLE_DEVICES=GPU-1 before" in config.reasons[-1]
    assert "CUDA_VISIBLE_DEVICES" not in plan(LLAMA, use_case="debate", gpus="2xRTX3090").reasons[-1]


def test_no_replicas_for_a_script() -> None:
    """The class `LLM` serves one caller; only engines of the daemon are made of several."""
    assert "data_parallel_size" not in plan(LLAMA, use_case="throughput", gpus="8xH100")


def test_whether_vllm_is_there_is_told_without_importing_it() -> None:
    """As a script would ask before it falls back to something else."""
    there = subprocess.run([sys.executable, "-c", "import vllm"], capture_output=True, check=False).returncode == 0

    assert vllm_is_installed() is there
    assert "vllm" not in sys.modules


def test_the_library_is_light() -> None:
    """In a fresh interpreter a plan imports nothing that is large, nor anything of a daemon."""
    program = f"""
import sys
from vllmd.planner import detect_gpus, plan, vllm_is_installed
vllm_is_installed(), str(detect_gpus())
assert plan({LLAMA!r}, use_case="debate", gpus="2xRTX3090")["tensor_parallel_size"] == 1
heavy = ("torch", "vllm", "transformers", "grpc", "google.protobuf", "pydantic", "numpy", "rich", "vllmd.client")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_daemon_does_not_import_it() -> None:
    """The names of the package are looked up once somebody asks for one."""
    program = "import sys, vllmd.planner.remedies; print('vllmd.planner.library' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout == "False\n"
    assert {"plan", "detect_gpus"} <= set(dir(vllmd.planner))
    with pytest.raises(AttributeError, match="no attribute 'plans'"):
        getattr(vllmd.planner, "plans")  # noqa: B009 - mypy knows as well that there is none
