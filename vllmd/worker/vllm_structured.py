"""Whether an engine can make a text be like what a client wants.

vLLM compiles grammars in EngineCore, with the one compiler that the first of them took; up to 0.22 or later one that it
can't compile ends EngineCore. Its check before that asks one compiler after another and so lets pass what that one does
not know, or ignores. So it is made here, out of the event loop, and what only another compiler takes is refused.
"""

from __future__ import annotations

import inspect
from typing import Any

from .backend import Impossible, InvalidRequest
from .vllm_arguments import CLIENT_ERRORS, client_text, is_a

REASON = "INVALID_STRUCTURED_OUTPUTS"
_FIRST = "xgrammar"
"""The compiler that vLLM asks first by default."""

_LOOSE, _STRICT = r"([^\"\\\r\n])", r"([^\0-\x1f\"\\\r\n])"
"""A character of a string whose length is bounded, as xgrammar has it and as JSON does: without control characters."""


def verify(params: Any, engine: Any) -> None:
    """Check the structured outputs of vLLM's *params*; they take up to some seconds of a core.

    Raises:
        InvalidRequest: they are no valid schema, regular expression or grammar.
        Impossible: this engine can't do what they ask for, as it was loaded.
    """
    config = engine.vllm_config.structured_outputs_config
    wanted = params.structured_outputs
    given = {
        "model_config": engine.model_config,
        "speculative_config": engine.vllm_config.speculative_config,
        "structured_outputs_config": config,
        "tokenizer": engine.renderer.get_tokenizer(),
    }
    if not inspect.signature(params.verify).parameters.keys() <= given.keys():
        return  # of a vLLM that we do not know yet: it checks by itself
    try:
        params.verify(**given)
    except Exception as error:
        # Its compilers have errors of their own, and assertions, about what they were given.
        if is_a(error, CLIENT_ERRORS) or isinstance(error, AssertionError | RuntimeError):
            raise _invalid(error, params) from error
        raise
    compiler = wanted._backend
    if config.backend == "auto" and compiler not in (None, _FIRST):
        message = (
            f"structured_outputs: {_FIRST}, which this engine uses, does not know all of this: simplify it, or load "
            f'the model with structured_outputs_config {{"backend": "{compiler}"}}'
        )
        raise InvalidRequest(message, REASON, backend=_FIRST, other_backend=compiler)
    if wanted.disable_any_whitespace and not config.disable_any_whitespace and (wanted.json or wanted.json_object):
        if compiler not in (None, _FIRST):
            message = f"structured_outputs.disable_any_whitespace: {compiler}, which this engine uses, does not know it"
            raise Impossible(message, "WHITESPACE_UNSUPPORTED", backend=compiler)
        params.structured_outputs = type(wanted)(grammar=_without_whitespace(wanted.json or '{"type": "object"}'))


def _without_whitespace(schema: str) -> str:
    """Make the grammar of a JSON schema: vLLM takes the wish with a request, and heeds it for whole engines only."""
    import xgrammar

    grammar = str(xgrammar.Grammar.from_json_schema(schema, any_whitespace=False, separators=(",", ":")))
    return grammar.replace(_LOOSE, _STRICT)


def _invalid(error: Exception, params: Any) -> InvalidRequest:
    parameter = getattr(error, "parameter", None)  # since 0.22, of some
    if parameter and parameter != "structured_outputs" and hasattr(params, parameter):
        return InvalidRequest(client_text(error), "INVALID_SAMPLING_PARAMS", field=parameter)
    return InvalidRequest(f"structured_outputs: {client_text(error)}", REASON)


def given_up(params: Any) -> Exception:
    """Say why vLLM gave up a request: mostly no token was left that its grammar takes."""
    if params.structured_outputs is None:
        return RuntimeError("the engine gave the request up; its log says why")
    return InvalidRequest(
        "structured_outputs: no token fits any more: they can't be compiled or allow no text, or another parameter "
        "forbids what they allow",
        REASON,
    )
