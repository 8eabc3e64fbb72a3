from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.fakes.fake_pynvml import FakePynvml, NVMLError_GpuIsLost, NVMLError_LibraryNotFound, snapshot_named
from vllmd.cli.commands import plan as command
from vllmd.cli.main import app

ROOT = Path(__file__).parents[3]
LLAMA = "tests/data/models/llama-3.1-8b"
LARGE = "tests/data/models/llama-3.3-70b"


@pytest.fixture(autouse=True)
def driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakePynvml:
    """A host without NVIDIA's driver and with nothing in the hub's cache, on which nothing answers."""
    driver = FakePynvml()
    driver.errors["nvmlInit", None] = NVMLError_LibraryNotFound()
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.chdir(ROOT)
    return driver


def run(*arguments: str) -> Result:
    """Run the command in this process; no daemon answers."""
    environ = {"VLLMD_ADDRESS": "unix:/nowhere.sock", "COLUMNS": "80"}
    return CliRunner(env=environ).invoke(app, ["plan", *arguments], prog_name="vllmd-cli")


def planned(*arguments: str) -> dict[str, Any]:
    """The object that programs get."""
    result = run(*arguments, "-o", "json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_plan_for_people() -> None:
    """On a terminal of 80 columns, without a daemon, for GPUs that are not there."""
    result = run(LLAMA, "--gpus", "2xRTX3090", "--use-case", "production")

    assert result.exit_code == 0
    assert "2x NVIDIA GeForce RTX 3090 (24.0 GiB each)" in result.stdout
    assert "GPU 1  ███" in result.stdout
    assert "KV cache of" in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 80


def test_a_plan_for_programs() -> None:
    """A folder with no more than a configuration is enough, and what is set is kept."""
    settings = ["gpu_memory_utilization=0.9", "max_model_len=8192", "quantization=fp8"]
    found = planned(LLAMA, "--gpus", "1xH200", *(word for item in settings for word in ("--set", item)))

    assert found["feasible"]
    assert found["engine_args"]["quantization"] == "fp8"
    assert found["engine_args"]["max_model_len"] == 8192
    assert found["weights_bytes_per_gpu"] == pytest.approx(9.08e9, rel=0.02)
    assert found["kv_cache_bytes_per_token"] == 131072
    assert found["max_concurrency"] == pytest.approx(found["kv_cache_tokens"] / 8192)
    assert len(found["reasons"]) >= len(found["engine_args"])


def test_what_does_not_fit() -> None:
    """The exit status tells, and both forms say what would help."""
    text = run(LARGE, "--gpus", "2xRTX3090")
    found = run(LARGE, "--gpus", "2xRTX3090", "-o", "json")
    document = json.loads(found.stdout)

    assert text.exit_code == found.exit_code == 1
    assert "WHAT WOULD MAKE IT FIT" in text.stdout
    assert document["feasible"] is False
    assert document["reason"] == "MODEL_TOO_LARGE"
    assert document["remedies"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gpus", "2xRTX3099"], "the nearest is RTX3090"),
        (["--gpus", "RTX3090"], "is not of the form COUNTxPRODUCT"),
        (["--gpus", "0xH100"], "a host has 1 to 16"),
        (["--use-case", "prodction"], "the nearest is production"),
        (["--set", "trust_remote_code=true"], "--allow-engine-arg trust_remote_code"),
        (["--set", "max_model_length=1"], "did you mean max_model_len?"),
        (["--set", "max_model_len=8k"], "must be a whole number"),
        (["--set", "nothing"], "is not KEY=VALUE"),
    ],
)
def test_misuse(arguments: list[str], words: str) -> None:
    """What can't be meant is refused, with what may have been."""
    result = run(LLAMA, *(["--gpus", "1xH100"] if "--gpus" not in arguments else []), *arguments)

    assert result.exit_code == 2
    assert words in " ".join(result.stderr.replace("│", " ").split())
    assert result.stdout == ""


def test_a_host_may_allow_more() -> None:
    """As the daemon's own option does."""
    arguments = ["--set", "trust_remote_code=true", "--allow-engine-arg", "trust_remote_code"]

    assert planned(LLAMA, "--gpus", "1xH100", *arguments)["engine_args"]["trust_remote_code"] is True


def test_nothing_is_chosen_without_auto_config() -> None:
    """What was set is passed through; what is on the GPUs now is shown."""
    found = planned(LLAMA, "--gpus", "2xRTX3090", "--no-auto-config", "--set", "tensor_parallel_size=2")

    assert found["engine_args"] == {"tensor_parallel_size": 2}
    assert "MEMORY NOW" in run(LLAMA, "--gpus", "2xRTX3090", "--no-auto-config").stdout


def test_an_unknown_model() -> None:
    """A folder that is not there fails, and so does a model of which nothing is known: there is nothing to plan by."""
    missing = run("./nowhere", "--gpus", "1xH100")

    assert missing.exit_code == 1
    assert "MODEL_NOT_FOUND" in missing.stderr
    unknown = run("nobody/nothing", "--gpus", "1xH100")
    assert unknown.exit_code == 1
    assert "MODEL_UNKNOWN" in unknown.stderr


def test_this_hosts_gpus(driver: FakePynvml) -> None:
    """With what is free on them now."""
    driver.errors.clear()
    driver.answers = snapshot_named("rtx3090-x2-nvlink")
    found = planned(LLAMA)

    assert [gpu["index"] for gpu in found["gpus"]] == [0, 1]
    assert found["hardware"] == "2x NVIDIA GeForce RTX 3090 (24.0 GiB each, NVLink)"


def test_no_gpus_on_this_host() -> None:
    """It is said, with how to name others."""
    result = run(LLAMA)

    assert result.exit_code == 0
    assert "no NVIDIA driver is installed" in " ".join(result.stdout.split())
    assert "--gpus 2xRTX3090" in " ".join(result.stdout.split())


def test_gpus_that_do_not_answer(driver: FakePynvml) -> None:
    """They are not taken for none."""
    driver.errors = {("nvmlInit", None): NVMLError_GpuIsLost("GPU is lost")}
    result = run(LLAMA)

    assert result.exit_code == 1
    assert "GPU is lost" in result.stderr
    assert "--gpus 2xRTX3090" in result.stderr


def test_gpus_of_two_kinds() -> None:
    """One kind is chosen, and the reason says so."""
    found = planned(LLAMA, "--gpus", "2xRTX4090,1xH200")

    assert len({gpu["product"] for gpu in found["gpus"]}) == 1
    assert any("only such of one kind" in reason for reason in found["reasons"])


def test_no_grpc_is_needed() -> None:
    """Nor anything else that takes long to import; the daemon is not asked."""
    program = f"""
import sys
from vllmd.cli.main import app
try:
    app(["plan", {LLAMA!r}, "--gpus", "2xRTX3090"], prog_name="vllmd-cli")
except SystemExit as ended:
    assert ended.code == 0, ended.code
print([name for name in ("grpc", "google.protobuf", "torch", "vllm", "transformers") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True, env=os.environ
    )

    assert done.stdout.splitlines()[-1] == "[]"


def test_what_the_readme_shows_runs() -> None:
    """On files of the repository, as it is written there."""
    section = (ROOT / "README.md").read_text().partition("## Plan without a daemon")[2].partition("\n## ")[0]
    lines = [line.partition("#")[0].split()[2:] for line in section.splitlines() if line.startswith("vllmd-cli plan t")]
    bars = [line for line in section.splitlines() if line.startswith("GPU ")]

    assert [run(*line).exit_code for line in lines] == [0, 1, 0]
    assert bars
    assert all(bar in run(*lines[0]).stdout for bar in bars)


def test_every_use_case_is_documented() -> None:
    """In the table of the documentation."""
    table = (ROOT / "docs" / "planning.md").read_text()

    assert all(f"| `{name}` |" in table for name in command.use_cases(""))


def test_completion_of_use_cases() -> None:
    """As they are called."""
    assert command.use_cases("d") == ["download", "debate"]
    assert len(command.use_cases("")) == 5


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("2xRTX30", ["2xRTX3060", "2xRTX3090"]),
        ("8xh2", ["8xH20", "8xH200"]),
        ("1xH200,2xRTX409", ["1xH200,2xRTX4090"]),
        ("twoxH", []),
        ("H200", []),
    ],
)
def test_completion_of_gpus(typed: str, offered: list[str]) -> None:
    """By product, behind the number, and behind what was typed before."""
    assert command.products(typed) == offered


def test_completion_of_gpus_before_anything_is_typed() -> None:
    """One of each, or as many as were named."""
    assert "1xH200" in command.products("")
    assert "4xL40S" in command.products("4")
