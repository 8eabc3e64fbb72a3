from __future__ import annotations

from typing import get_type_hints

import pytest

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon
from vllmd.client import SamplingOptions
from vllmd.v1.generation_pb2 import SamplingParams

OPTIONS = """
--max-tokens 1 --min-tokens 2 --temperature 0.5 --top-p 0.5 --top-k 3 --min-p 0.5 --presence-penalty -1
--frequency-penalty 1 --repetition-penalty 2 --seed 7 --stop x --stop-token-id 9 --ignore-eos --keep-special-tokens
-n 2 --logprobs 0 --prompt-logprobs 1 --bad-word x --logit-bias 7=-1.5 --logit-bias 8=2 --allowed-token-id 7
--include-stop --no-special-spaces --truncate-prompt-tokens 5 --json-object
"""


def test_every_parameter_has_its_option(daemon: FakeDaemon, run: Run) -> None:
    """Whatever the proto can say about sampling, the command line can, and so can the client."""
    run("generate", "e", "hi", *OPTIONS.split())

    sent: SamplingParams = daemon.requests[0].sampling_params
    names = {field.name for field in SamplingParams.DESCRIPTOR.fields}
    assert {field.name for field, _ in sent.ListFields()} == names == set(get_type_hints(SamplingOptions))
    assert (sent.max_tokens, sent.presence_penalty, sent.seed, sent.stop_token_ids[0]) == (1, -1.0, 7, 9)
    assert sent.skip_special_tokens is False
    assert dict(sent.logit_bias) == {7: -1.5, 8: 2.0}
    assert (sent.n, sent.logprobs, sent.include_stop_str_in_output) == (2, 0, True)
    assert sent.spaces_between_special_tokens is False


@pytest.mark.parametrize("bias", ["7", "x=1", "7=x", "-7=1", "99999999999=1"])
def test_a_bias_is_a_token_and_a_number(run: Run, bias: str) -> None:
    """Anything else is misuse."""
    result = run("generate", "e", "hi", "--logit-bias", bias)

    assert result.exit_code == 2
    assert "is not N=X" in result.stderr
