from __future__ import annotations

import types
from typing import Any

import pytest

from vllmd.worker.backend import Impossible, InvalidRequest
from vllmd.worker.vllm_structured import given_up, verify


class VLLMClientError(Exception):
    """Of the name, if not the make, of vLLM's."""

    def __init__(self, text: str, parameter: str | None = None) -> None:
        super().__init__(text)
        self.parameter = parameter


class Params:
    """vLLM's `SamplingParams`, which chooses a compiler as it is checked."""

    bad_words = ()

    def __init__(
        self, compiler: str = "xgrammar", error: Exception | None = None, disable_any_whitespace: bool = False
    ) -> None:
        self.structured_outputs = types.SimpleNamespace(
            disable_any_whitespace=disable_any_whitespace, json="{}", json_object=None, _backend=None
        )
        self._compiler, self._error = compiler, error

    def verify(
        self, model_config: Any, speculative_config: Any, structured_outputs_config: Any, tokenizer: Any
    ) -> None:
        assert (model_config, speculative_config, tokenizer) == ("model", "speculation", "tokenizer")
        if self._error is not None:
            raise self._error
        self.structured_outputs._backend = self._compiler


def engine(backend: str = "auto", disable_any_whitespace: bool = False) -> Any:
    """An engine of vLLM's, as far as a check looks at it."""
    config = types.SimpleNamespace(backend=backend, disable_any_whitespace=disable_any_whitespace)
    return types.SimpleNamespace(
        model_config="model",
        vllm_config=types.SimpleNamespace(speculative_config="speculation", structured_outputs_config=config),
        renderer=types.SimpleNamespace(get_tokenizer=lambda: "tokenizer"),
    )


@pytest.mark.parametrize(
    ("params", "of"),
    [
        (Params(), engine()),
        (Params("guidance"), engine("guidance")),
        (Params("guidance", disable_any_whitespace=True), engine("guidance", disable_any_whitespace=True)),
    ],
)
def test_what_the_engines_compiler_takes_passes(params: Params, of: Any) -> None:
    """Whichever the model was loaded with."""
    verify(params, of)


def test_what_only_another_compiler_takes_is_refused() -> None:
    """EngineCore has one, and would ignore what that does not know, or die of it."""
    with pytest.raises(InvalidRequest, match="xgrammar, which this engine uses") as refused:
        verify(Params("guidance"), engine())

    assert refused.value.reason == "INVALID_STRUCTURED_OUTPUTS"
    assert refused.value.metadata["other_backend"] == "guidance"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (VLLMClientError("no grammar"), "INVALID_STRUCTURED_OUTPUTS"),
        (ValueError("no grammar"), "INVALID_STRUCTURED_OUTPUTS"),
        (AssertionError("trigger must not be empty"), "INVALID_STRUCTURED_OUTPUTS"),
        (RuntimeError("no such rule"), "INVALID_STRUCTURED_OUTPUTS"),
        (VLLMClientError("too many", "bad_words"), "INVALID_SAMPLING_PARAMS"),
    ],
)
def test_what_vllm_refuses_is_refused_with_its_text(error: Exception, reason: str) -> None:
    """It checks the other parameters on the way."""
    with pytest.raises(InvalidRequest, match=str(error)) as refused:
        verify(Params(error=error), engine())

    assert refused.value.reason == reason


def test_a_bug_is_not_the_clients_fault() -> None:
    """It is logged as what it is."""
    with pytest.raises(KeyError):
        verify(Params(error=KeyError("x")), engine())


def test_whitespace_that_a_compiler_can_not_leave_out_is_told() -> None:
    """vLLM would take the wish and ignore it; with xgrammar it is heeded: `tests/real/test_sampling.py`."""
    with pytest.raises(Impossible, match="guidance, which this engine uses") as refused:
        verify(Params("guidance", disable_any_whitespace=True), engine("guidance"))

    assert refused.value.reason == "WHITESPACE_UNSUPPORTED"


def test_a_vllm_that_checks_otherwise_is_left_to_it() -> None:
    """Rather than failing at each request."""

    class Later(Params):
        def verify(self, something_new: Any) -> None:  # type: ignore[override]
            raise AssertionError

    verify(Later(), engine())


def test_a_request_that_vllm_gives_up_is_the_clients_fault_if_it_is_structured() -> None:
    """No token was left that fits."""
    plain = types.SimpleNamespace(structured_outputs=None)

    assert isinstance(given_up(Params()), InvalidRequest)
    assert isinstance(given_up(plain), RuntimeError)
