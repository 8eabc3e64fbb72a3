"""Each reason of the catalogue comes from a real call, as the catalogue says."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from google.rpc import code_pb2, error_details_pb2

from tests.api.scenarios import engines, host, prompts, requests
from tests.fakes.served import details_of, status_of
from vllmd import catalog
from vllmd.api import codes

SCENARIOS = requests.SCENARIOS | prompts.SCENARIOS | engines.SCENARIOS | host.SCENARIOS
UNTRIED = requests.UNTRIED | prompts.UNTRIED
GIB = 1 << 30
NUMBER = re.compile(r"(?<![\w./-])\d+(?:\.\d+)?(?![\w-])")
"""That is no part of a name such as Qwen3-8B."""


def strangers(message: str, metadata: Iterable[str]) -> list[str]:
    """List the numbers of a message that its metadata does not have: as text, as the same number, or in GiB."""
    rest, values = message, sorted(metadata, key=len, reverse=True)
    for value in (value for value in values if not NUMBER.fullmatch(value)):
        if value.endswith("…"):  # a long one is cut, and so ends with what it is about
            rest = rest.partition(value.removesuffix("…"))[0]
        rest = rest.replace(value, " ")
    known = {float(number) for value in values for number in NUMBER.findall(value)}
    in_gib = {f"{number / GIB:.1f}" for number in known}
    return [found for found in NUMBER.findall(rest) if float(found) not in known and found not in in_gib]


def test_the_check_of_numbers_finds_one_that_is_missing() -> None:
    """Names are taken out first, and bytes count as GiB."""
    assert strangers("GPU-0 has 2.0 GiB of 3", ["GPU-0", str(2 * GIB)]) == ["3"]
    assert strangers("takes more than 10 s", ["10.0"]) == []


def test_every_reason_has_its_scenario() -> None:
    """Or a reason why it can't have one here, and nothing has both; nothing else is tried."""
    sent = {entry.reason for entry in catalog.SENT}

    assert sorted(sent - set(SCENARIOS) - set(UNTRIED)) == []
    assert sorted((set(SCENARIOS) | set(UNTRIED)) - sent) == []
    assert set(SCENARIOS).isdisjoint(UNTRIED)
    assert len(UNTRIED) < 12


@pytest.mark.parametrize("reason", SCENARIOS)
async def test_a_call_that_ends_with_it(reason: str) -> None:
    """Code, reason, numbers and the time to try again are as the catalogue says; the message is a sentence."""
    entry = catalog.find(reason)
    assert entry is not None
    error = await SCENARIOS[reason]()
    status = status_of(error)
    kinds = Counter(detail.type_url.rpartition(".")[2] for detail in status.details)
    details: Any = details_of(status)
    info: error_details_pb2.ErrorInfo = details["ErrorInfo"]

    assert (info.reason, info.domain) == (reason, "vllmd")
    assert error.code().name == code_pb2.Code.Name(codes.of_entry(entry))
    assert set(kinds.values()) == {1}
    assert set(info.metadata) <= set(entry.metadata)
    assert ("RetryInfo" in details) is entry.may_pass
    assert re.fullmatch(r".{10,}[.!?…]", status.message, re.DOTALL)
    if not entry.quotes:
        assert strangers(status.message, info.metadata.values()) == []
