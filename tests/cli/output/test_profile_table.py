from __future__ import annotations

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.host_samples import profile
from vllmd.v1.host_service_pb2 import ListProfilesResponse


def test_what_each_load_took_fits_a_narrow_terminal(daemon: FakeDaemon, run: Run) -> None:
    """Sizes on one line; below the model the GPUs, the version and the settings, without what says the same twice."""
    unknown = profile("a/b", pipeline_parallel_size=2, max_num_seqs=256, kv_cache_dtype="fp8_e4m3", speculative=None)
    unknown.ClearField("kv_cache_tokens")
    daemon.profiles = ListProfilesResponse(profiles=[profile(), unknown])

    out = run("profiles", COLUMNS="80").stdout
    lines = [" ".join(line.split()) for line in out.splitlines()]

    assert max(map(len, out.splitlines())) <= 80
    assert lines[:3] == [
        "MODEL WEIGHTS ACTIV. GRAPHS KV TOKENS AGE",
        "Qwen/Qwen3-8B 15.0 GiB 2.0 GiB - 327680 1h",
        "2x NVIDIA H200, vLLM 0.25.1",
    ]
    assert lines[3] == "a/b 15.0 GiB 2.0 GiB - - 1h"
    assert lines[4] == "4x NVIDIA H200, vLLM 0.25.1"
    assert " ".join(lines[5:]) == "kv_cache_dtype=fp8_e4m3 max_num_seqs=256 speculative=null"


def test_names_cannot_command_the_terminal(daemon: FakeDaemon, run: Run) -> None:
    """Whoever chose them."""
    daemon.profiles = ListProfilesResponse(profiles=[profile("a\x1b[2Jb", dtype="\x1b[2J")])

    assert "\x1b" not in run("profiles").stdout
