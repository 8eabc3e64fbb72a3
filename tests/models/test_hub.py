"""Scripts stand for the engine's interpreter: each says what a child of ours might, or what one never should."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pathlib
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllmd.errors import Denied, InvalidRequest, NotFound, VllmdError
from vllmd.interpreter import Interpreter
from vllmd.models import files, hub
from vllmd.tasks import spawn

Child = Callable[[str], Interpreter]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LISTING: dict[str, Any] = {
    "files": {"config.json": 2, "model.safetensors": 1008, "odd": None},
    "parameters": {"BF16": 500},
}


@pytest.fixture
def child(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Child:
    """Make an interpreter that runs some lines of shell instead; each run adds a line to `runs`."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "VLLM_USE_MODELSCOPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))

    def make(lines: str) -> Interpreter:
        path = tmp_path / "python"
        path.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/runs\n{lines}\n')
        path.chmod(0o755)
        return Interpreter(path)

    return make


@pytest.fixture
def model() -> str:
    """A model that no other test asks for: what came of an ask is remembered."""
    return f"org/{secrets.token_hex(4)}"


def says(answer: object) -> str:
    """A line of shell that prints an answer."""
    return f"echo '{json.dumps(answer)}'"


def runs(tmp_path: pathlib.Path) -> list[str]:
    """What children were started with so far."""
    path = tmp_path / "runs"
    return path.read_text().splitlines() if path.exists() else []


async def test_a_model_is_found_once_its_configuration_was_fetched(
    child: Child, tmp_path: pathlib.Path, model: str
) -> None:
    """With what the hub says of its weights, which are yet to come."""
    repository = tmp_path / "cache" / ("models--" + model.replace("/", "--"))
    python = child(
        f"mkdir -p {repository}/snapshots/{COMMIT} {repository}/refs; printf {COMMIT} > {repository}/refs/main; "
        f"echo '{{}}' > {repository}/snapshots/{COMMIT}/config.json; {says(LISTING)}"
    )
    before = await files.facts_of(model)
    facts = await files.facts_of(model, "", python)
    again = await files.facts_of(model, "", python)

    assert before is None
    assert facts is not None
    assert facts == again
    assert (facts.weight_bytes, facts.bytes_by_dtype) == (1000, (("BF16", 1000),))
    assert facts.weights_note == "1 of 1 weight files are yet to be fetched"
    assert len(runs(tmp_path)) == 1


async def test_asks_for_one_model_share_a_child(child: Child, tmp_path: pathlib.Path, model: str) -> None:
    """One that is cancelled takes the answer from no other."""
    python = child(f"sleep 0.3; {says(LISTING)}")
    asks = [spawn(f"ask {number}", hub.fetch(model, "", python)) for number in range(3)]
    while not runs(tmp_path):
        await asyncio.sleep(0.01)
    asks[0].cancel()

    assert await asyncio.gather(*asks[1:]) == [True, True]
    assert len(runs(tmp_path)) == 1


async def test_models_wait_for_one_another(child: Child, tmp_path: pathlib.Path, model: str) -> None:
    """So that many asks are not as many interpreters at once; all of them come to an answer."""
    python = child(says(LISTING))
    answers = await asyncio.gather(*(hub.fetch(f"{model}-{number}", "", python) for number in range(6)))

    assert answers == [True] * 6
    assert len(runs(tmp_path)) == 6


@pytest.mark.parametrize(
    ("failure", "error", "reason", "says_what"),
    [
        ("gated", Denied, "MODEL_GATED", "accept its license"),
        ("denied", Denied, "MODEL_GATED", "valid one"),
        ("missing", NotFound, "MODEL_NOT_FOUND", "The hub has no"),
        ("revision", NotFound, "MODEL_NOT_FOUND", "no revision v2"),
    ],
)
async def test_what_is_certain_is_an_error(
    child: Child, model: str, failure: str, error: type[VllmdError], reason: str, says_what: str
) -> None:
    """With what to do about it; it may be done by the next ask."""
    python = child(says({"failure": failure, "why": "SomeError"}))

    for _ in range(2):
        with pytest.raises(error, match=says_what) as refused:
            await hub.fetch(model, "v2", python)
        assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (says({"failure": "other", "why": "ConnectError"}), "ConnectError"),
        ("exit 3", "status 3 and no answer"),
        ("echo no JSON", "no answer"),
        (says([1]), "an answer that is none"),
    ],
)
async def test_what_is_not_certain_is_logged_and_not_tried_again_at_once(
    child: Child, tmp_path: pathlib.Path, model: str, caplog: pytest.LogCaptureFixture, lines: str, why: str
) -> None:
    """The engine starts without facts then, as vLLM may get further."""
    python = child(lines)

    assert [await files.facts_of(model, "", python) for _ in range(2)] == [None, None]
    assert why in caplog.text
    assert len(runs(tmp_path)) == 1


async def test_a_child_that_hangs_is_ended(
    child: Child, tmp_path: pathlib.Path, model: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for the hub for ever."""
    monkeypatch.setattr(hub, "PATIENCE_SECONDS", 0.3)
    python = child(f"echo $$ > {tmp_path}/pid; exec sleep 60")

    assert not await hub.fetch(model, "", python)
    assert "no answer for 0.3 s" in caplog.text
    assert not pathlib.Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


async def test_an_interpreter_that_is_not_there_is_logged(
    model: str, child: Child, caplog: pytest.LogCaptureFixture
) -> None:
    """As one that has no huggingface_hub would be."""
    assert not await hub.fetch(model, "", Interpreter(pathlib.Path("/no/such/python")))
    assert "No such file" in caplog.text


async def test_a_token_stays_in_the_environment(
    child: Child,
    tmp_path: pathlib.Path,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Other users can read command lines, and more people read logs."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("VLLMD_LEASE", "hf_secret")
    caplog.set_level(logging.DEBUG)
    python = child(f"env > {tmp_path}/environment; echo $HF_TOKEN >&2; echo $HF_TOKEN; exit 1")
    await hub.fetch(model, "v2", python)
    environment = (tmp_path / "environment").read_text().splitlines()

    assert "HF_TOKEN=hf_secret" in environment
    assert not [line for line in environment if line.startswith("VLLMD_")]
    assert runs(tmp_path)[0].endswith(f"hub_fetch.py 25 {model} v2")
    assert "hf_secret" not in caplog.text + runs(tmp_path)[0]


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
async def test_the_hub_is_not_asked_offline(
    child: Child, tmp_path: pathlib.Path, model: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """By the variables that huggingface_hub heeds."""
    python = child(says(LISTING))
    monkeypatch.setenv(name, "1")

    assert hub.is_offline()
    assert not hub.is_offline({name: "0"})
    assert await files.facts_of(model, "", python) is None
    assert not runs(tmp_path)


async def test_what_is_no_model_for_vllm_is_refused(child: Child, model: str) -> None:
    """Before an engine is started for it."""
    python = child(says({"files": {"adapter_config.json": 1, "adapter_model.safetensors": 1}}))

    with pytest.raises(InvalidRequest, match="LoRA adapter"):
        await hub.fetch(model, "", python)


def test_a_listing_has_bytes_only_where_every_dtype_is_known() -> None:
    """A total that leaves something out would be believed."""
    known = hub.read_listing({"parameters": {"BF16": 10, "F32": 10, "F4": 10}})
    unknown = hub.read_listing({"parameters": {"BF16": 10, "F3": 10}})

    assert known.bytes_by_dtype == {"BF16": 20, "F32": 40, "F4": 5}
    assert unknown.bytes_by_dtype == {}
    assert hub.read_listing(LISTING).sizes == {"config.json": 2, "model.safetensors": 1008}


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda within: st.lists(within, max_size=2) | st.dictionaries(st.text(max_size=4), within, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["files", "parameters"]), anything))
def test_no_answer_makes_it_fail(answer: dict[str, Any]) -> None:
    """It comes from a program of another environment, and what is in it from the hub."""
    found = hub.read_listing(answer)

    assert all(size >= 0 for size in [*found.sizes.values(), *found.bytes_by_dtype.values()])


def test_the_program_lies_beside() -> None:
    """It is run by its path, which an installation must have."""
    assert os.path.isfile(hub._PROGRAM)
