from __future__ import annotations

import pytest

from tests.fakes.models import asked, planned
from vllmd.planner.request import Request


def test_what_the_caller_set_counts_before_what_the_host_sets() -> None:
    """And each is credited with its own."""
    request = asked("1xH100", client={"max_num_seqs": 8}, host={"max_num_seqs": 16, "enforce_eager": True})
    sources = {one.name: (one.value, one.source) for one in planned(request).choices}

    assert request.wanted == {"max_num_seqs": 8, "enforce_eager": True}
    assert sources["max_num_seqs"] == (8, "client")
    assert sources["enforce_eager"] == (True, "host")


@pytest.mark.parametrize("use_case", [None, ""])
def test_a_request_without_a_use_case_is_for_nothing_in_particular(use_case: str | None) -> None:
    """Then vLLM's server is the model."""
    assert "use case" not in {one.source for one in planned(asked("1xH100", use_case=use_case)).choices}


def test_a_request_of_which_nothing_is_known_is_for_the_cpu() -> None:
    """Where there are no GPUs there is nothing to divide."""
    found = planned(Request())

    assert found.gpus == ()
    assert list(found.engine_args) == ["kv_cache_memory_bytes"]


def test_who_wants_nothing_chosen_gets_what_was_asked_for() -> None:
    """And the GPUs for it."""
    found = planned(asked("4xL40S", auto=False, client={"tensor_parallel_size": 2}, use_case="production"))

    assert found.engine_args == {"tensor_parallel_size": 2}
    assert len(found.gpus) == 2
