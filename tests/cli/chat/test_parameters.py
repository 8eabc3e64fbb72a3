from __future__ import annotations

import math
from typing import Any

import pytest

from vllmd.api import parse_sampling
from vllmd.cli.chat import parameters as chat_parameters
from vllmd.client.sampling import sampling_params
from vllmd.errors import InvalidRequest
from vllmd.v1.generation_pb2 import SamplingParams


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("temperature", "0.5", 0.5),
        ("temperature", "0", 0),
        ("max_tokens", "8", 8),
        ("ignore_eos", "on", True),
        ("skip_special_tokens", "false", False),
        ("stop", "END", ["END"]),
        ("stop", "7", ["7"]),
        ("stop", '["a", "b"]', ["a", "b"]),
        ("stop_token_ids", "9", [9]),
        ("logit_bias", '{"7": -1.5}', {7: -1.5}),
        ("structured_outputs", '{"regex": "a+"}', {"regex": "a+"}),
        ("lora", "7", "7"),
        ("priority", "-3", -3),
        ("template_args", '{"enable_thinking": false}', {"enable_thinking": False}),
    ],
)
def test_values(name: str, text: str, value: Any) -> None:
    """A value is read as what the parameter takes."""
    assert chat_parameters.parse(name, text) == value


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("temprature", "1", "did you mean temperature?"),
        ("n", "2", "there is no parameter n"),
        ("temperature", "hot", "temperature takes a number"),
        ("max_tokens", "1.5", "max_tokens takes a whole number"),
        ("max_tokens", "99999999999", "max_tokens takes a whole number"),
        ("ignore_eos", "perhaps", "ignore_eos takes on or off"),
        ("stop_token_ids", "x", "stop_token_ids takes a whole number, or a JSON list of such"),
        ("logit_bias", "3", "logit_bias takes a JSON object"),
        ("structured_outputs", '{"regex": "a", "json_object": true}', "exactly one of"),
        ("max_tokens", "-3", "max_tokens is at least 1"),
        ("top_p", "1.5", "top_p is 0 to 1"),
        ("presence_penalty", "NaN", "presence_penalty is -2 to 2"),
        ("priority", "true", "priority takes a whole number"),
    ],
)
def test_refusals(name: str, text: str, message: str) -> None:
    """What is refused is told what would do."""
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        chat_parameters.parse(name, text)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, bound + step)
        for name, (least, most) in chat_parameters.RANGES.items()
        for bound, step in ((least, -1), (most, 1))
        if math.isfinite(bound)
    ],
)
def test_what_is_refused_here_the_daemon_refuses(name: str, value: float) -> None:
    """A chat must not keep back what would work."""
    params = SamplingParams()
    setattr(params, name, value)

    with pytest.raises(InvalidRequest, match=name):
        parse_sampling.sampling_params(params)


def test_every_name_is_one_that_the_client_takes() -> None:
    """What the client does not know as a sampling parameter is the request's own."""
    own = {"cache_salt", "lora", "priority", "template_args"}

    for name in set(chat_parameters.names()) - own:
        sampling_params({name: None})
    assert own <= set(chat_parameters.names())


def test_parameters_of_a_file() -> None:
    """They are checked as those that are typed are."""
    assert chat_parameters.check({"logit_bias": {"7": 1.0}, "stop": ["x"]}) == {"logit_bias": {7: 1.0}, "stop": ["x"]}
    with pytest.raises(ValueError, match="no parameter colour"):
        chat_parameters.check({"colour": "red"})
