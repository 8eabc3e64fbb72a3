"""Sampling parameters and log probabilities between the link and vLLM, whose types it knows as they are handed in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from .backend import InvalidRequest
from .protocol import Candidate
from .vllm_arguments import (
    CLIENT_ERRORS,
    client_text,
    integral,
    is_a,
    refuse_foreign_tokens,
    refuse_not_finite,
    refuse_unknown,
)

_OURS = {"output_kind", "skip_clone", "output_text_buffer_length"}
"""Fields of `SamplingParams` that are no client's business."""

_STRUCTURED = "structured_outputs"


class Sampling:
    """Makes vLLM's `SamplingParams`.

    Args:
        params_type: vLLM's class of that name.
        structured_type: its `StructuredOutputsParams`.
        output_kind: its `RequestOutputKind`.
        defaults: what the model's generation config says.
        vocab_size: how many tokens the model has.
        max_logprobs: how many log probabilities it gives at most, beside the chosen token's; -1 for all.
    """

    def __init__(
        self,
        params_type: Any,
        structured_type: Any,
        output_kind: Any,
        defaults: Mapping[str, Any],
        vocab_size: int,
        max_logprobs: int,
    ) -> None:
        self._type = params_type
        self._structured_type = structured_type
        self._kinds = {False: output_kind.DELTA.value, True: output_kind.FINAL_ONLY.value}
        self._hints = {
            field.name: field.type
            for field in msgspec.structs.fields(params_type)
            if field.name not in _OURS and not field.name.startswith("_")
        }
        # vLLM's own default of 16 tokens surprises; `None` is as many as fit.
        self._defaults = {"max_tokens": None} | dict(defaults)
        self._vocab_size = vocab_size
        self._max_logprobs = vocab_size if max_logprobs == -1 else max_logprobs

    def params(self, given: Mapping[str, Any], whole: bool = False) -> Any:
        """Build them of the client's values over those of the model; *whole* asks for ends alone.

        Raises:
            InvalidRequest: a value is of the wrong type, out of range, or outside of the vocabulary.
        """
        with _refusing("INVALID_SAMPLING_PARAMS"):
            refuse_unknown(given, self._hints, "sampling parameter of this vLLM")
            refuse_not_finite(given)
            plain = {name: value for name, value in given.items() if name != _STRUCTURED}
            values = self._defaults | integral(plain, self._hints) | {"output_kind": self._kinds[whole]}
            # Unlike the constructor this checks types, against the very hints that EngineCore decodes by.
            params = msgspec.convert(values, self._type)
        for name in ("stop_token_ids", "allowed_token_ids", "logit_bias"):
            refuse_foreign_tokens(name, list(getattr(params, name) or ()), self._vocab_size)
        for name in ("logprobs", "prompt_logprobs"):
            if (wanted := getattr(params, name) or 0) > self._max_logprobs:
                message = f"{name}: this engine gives 0 to {self._max_logprobs}, by its max_logprobs, not {wanted}"
                raise InvalidRequest(
                    message, "INVALID_SAMPLING_PARAMS", field=name, value=wanted, limit=self._max_logprobs
                )
        if given.get(_STRUCTURED):
            with _refusing("INVALID_STRUCTURED_OUTPUTS"):
                params.structured_outputs = self._structured_type(**given[_STRUCTURED])
        return params


@contextlib.contextmanager
def _refusing(reason: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if is_a(error, CLIENT_ERRORS):
            raise InvalidRequest(client_text(error), reason) from error
        raise


def candidates(places: Sequence[Mapping[int, Any] | None] | None) -> list[list[Candidate]] | None:
    """Read vLLM's log probabilities: at each place the chosen token first, then the others by rank."""
    if places is None:
        return None
    return [
        [
            Candidate(token, float(found.logprob), found.rank or 0, found.decoded_token or "")
            for token, found in (place or {}).items()
        ]
        for place in places
    ]
