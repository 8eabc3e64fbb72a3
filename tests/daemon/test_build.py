from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from vllmd.config import Settings
from vllmd.daemon import build


def settings(runtime: Path, **changes: Any) -> Settings:
    """Those of a daemon with fake engines, all in one directory."""
    own: dict[str, Any] = {
        "socket": runtime / "s",
        "runtime_dir": runtime,
        "cache_dir": runtime / "c",
        "state_dir": runtime / "st",
    }
    return Settings(**{"backend": "fake", **own, **changes})


def test_what_can_not_be_is_refused_before_anything_is_made(runtime: Path) -> None:
    """A path that is too long, an address that anybody could reach, an interpreter that is not there."""
    made = runtime / "r"
    wrong = {
        "PATH_TOO_LONG": settings(made, runtime_dir=made / ("x" * 100)),
        "LISTEN_REFUSED": settings(made, listen="0.0.0.0:1"),
        "NO_ENGINE_PYTHON": settings(made, backend="vllm", engine_python=Path("/no/such/python")),
    }
    found = {reason: [error.reason for _, error in build.problems(refused)] for reason, refused in wrong.items()}
    right = settings(made), settings(made, engine_args={"fake_load_seconds": 1})
    (name, misspelt) = build.problems(settings(made, engine_args={"max_model_length": 8}))[0]

    assert found == {reason: [reason] for reason in wrong}
    assert [build.problems(one) for one in right] == [[], []]
    assert (name, "did you mean max_model_len" in misspelt.message) == ("engine_args", True)
    assert not made.exists()


def test_the_directories_are_this_users_alone(runtime: Path) -> None:
    """Secrets are in them."""
    build.make_directories(settings(runtime / "r"))

    assert sorted(path.name for path in (runtime / "r").iterdir()) == ["c", "e", "st"]
    assert {path.stat().st_mode & 0o777 for path in (runtime / "r").iterdir()} == {0o700}


async def test_a_simulated_host_is_told_to_the_engines(runtime: Path) -> None:
    """Their processes write down what they hold where the daemon looks for it."""
    options = settings(runtime / "r", simulate="2xRTX3090")
    build.make_directories(options)
    async with contextlib.AsyncExitStack() as cleanup:
        parts = build.build(options, cleanup)
        inventory = await parts.monitor.snapshot()

        assert len(inventory.gpus) == 2
        assert parts.ground.simulation == runtime / "r" / "sim"
        assert parts.journal.parent == runtime / "r" / "st"
    assert not (runtime / "r" / "sim").exists()
