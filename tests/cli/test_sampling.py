from __future__ import annotations

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon
from vllmd.v1.generation_pb2 import SamplingParams

OPTIONS = """
--max-tokens 1 --min-tokens 2 --temperature 0.5 --top-p 0.5 --top-k 3 --min-p 0.5 --presence-penalty -1
--frequency-penalty 1 --repetition-penalty 2 --seed 7 --stop x --stop-token-id 9 --ignore-eos --keep-special-tokens
"""


def test_every_parameter_has_its_option(daemon: FakeDaemon, run: Run) -> None:
    """Whatever the proto can say about sampling, the command line can."""
    run("generate", "e", "hi", *OPTIONS.split())

    sent: SamplingParams = daemon.requests[0].sampling_params
    assert {field.name for field, _ in sent.ListFields()} == {field.name for field in SamplingParams.DESCRIPTOR.fields}
    assert (sent.max_tokens, sent.presence_penalty, sent.seed, sent.stop_token_ids[0]) == (1, -1.0, 7, 9)
    assert sent.skip_special_tokens is False
