from __future__ import annotations

from pathlib import Path

import pytest

from vllmd.errors import InvalidRequest, NotFound
from vllmd.scheduler.admission import Admission
from vllmd.scheduler.wish import Wish


async def test_a_directory_that_is_not_there_is_told_before_any_start(tmp_path: Path) -> None:
    """A fake engine knows no models, so any name will do."""
    with pytest.raises(NotFound):
        await Admission("vllm", ()).look_for(Wish(str(tmp_path / "none")))
    await Admission("fake", ()).look_for(Wish(str(tmp_path / "none")))


def test_only_the_fake_engine_takes_its_own_arguments() -> None:
    """And what a host allows is allowed."""
    wish = Wish("m", engine_args={"fake_load_seconds": 1})
    Admission("fake", ()).check(wish)
    Admission("vllm", ("hf_overrides",)).check(Wish("m", engine_args={"hf_overrides": {}}))

    with pytest.raises(InvalidRequest):
        Admission("vllm", ()).check(wish)
    with pytest.raises(InvalidRequest):
        Admission("vllm", ()).check(Wish("m", engine_args={"hf_overrides": {}}))
