from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.rules import live
from vllmd.config import Live
from vllmd.errors import Denied, InvalidRequest, NotFound
from vllmd.scheduler.admission import Admission
from vllmd.scheduler.wish import Wish


async def test_a_directory_that_is_not_there_is_told_before_any_start(tmp_path: Path) -> None:
    """A fake engine knows no models, so any name will do."""
    with pytest.raises(NotFound):
        await Admission("vllm", Live()).look_for(Wish(str(tmp_path / "none")))
    await Admission("fake", Live()).look_for(Wish(str(tmp_path / "none")))


async def test_a_path_that_this_host_loads_nothing_from_is_refused_first(tmp_path: Path) -> None:
    """Whether anything is there is not told; names on the hub are not meant, and a reload counts at once."""
    rules = live(model_roots=(tmp_path / "models",))
    for backend in ("vllm", "fake"):
        for outside in (tmp_path, tmp_path / "none"):
            with pytest.raises(Denied):
                await Admission(backend, rules).look_for(Wish(str(outside)))
    await Admission("fake", rules).look_for(Wish(str(tmp_path / "models" / "a")))
    await Admission("vllm", rules).look_for(Wish("no-such/model"))
    rules.rules = live().rules
    await Admission("fake", rules).look_for(Wish(str(tmp_path)))


def test_only_the_fake_engine_takes_its_own_arguments() -> None:
    """And what a host allows is allowed."""
    wish = Wish("m", engine_args={"fake_load_seconds": 1})
    Admission("fake", Live()).check(wish)
    Admission("vllm", live(allowed_engine_args=("hf_overrides",))).check(Wish("m", engine_args={"hf_overrides": {}}))

    with pytest.raises(InvalidRequest):
        Admission("vllm", Live()).check(wish)
    with pytest.raises(InvalidRequest):
        Admission("vllm", Live()).check(Wish("m", engine_args={"hf_overrides": {}}))


async def test_adapters_are_looked_at_before_any_start(tmp_path: Path) -> None:
    """Where they are first, of all of them, and then what they are; a fake engine needs none."""
    model, ours = tmp_path / "models" / "m", tmp_path / "models" / "a"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    outside = Wish(str(model), lora={"a": str(ours), "b": str(tmp_path / "b")})
    missing = Wish(str(model), lora={"a": str(ours)})
    with pytest.raises(Denied, match="/b is outside"):
        await Admission("vllm", live(model_roots=(tmp_path / "models",))).look_for(outside)
    with pytest.raises(Denied, match="/b is outside"):
        await Admission("fake", live(model_roots=(tmp_path / "models",))).look_for(outside)
    with pytest.raises(NotFound) as refused:
        await Admission("vllm", Live()).look_for(missing)
    await Admission("fake", Live()).look_for(missing)

    assert refused.value.reason == "LORA_NOT_FOUND"
