"""What real vLLM makes of sampling parameters, structured outputs and chats, through the daemon."""

from __future__ import annotations

import concurrent.futures
import json
import math
import pathlib
import re
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import pytest

from tests.fakes.served import reason_of
from tests.host.running import RunningDaemon, until
from tests.real.conftest import ENGINE_ARGS, LOAD_SECONDS, direct_run
from vllmd.v1 import generation_pb2
from vllmd.v1.engine_service_pb2 import GenerateRequest, GenerateResponse, LoadedModel
from vllmd.v1.generation_pb2 import ChatMessage, ChatPrompt, Choice, SamplingParams, StructuredOutputs, TokenLogprobs

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(LOAD_SECONDS + 200), pytest.mark.xdist_group("vllm-shared")]

CALL_SECONDS = 200
"""The first log probabilities of an engine have it compile what ranks them."""
PROMPTS = [[3 + (5 * index + step) % 500 for step in range(4 + index)] for index in range(4)]
MOST = 3
"""Log probabilities beside the chosen token's."""

CLOSED = {"additionalProperties": False}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
        "kind": {"enum": ["cat", "dog", None]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
        "inner": {"type": "object", "properties": {"x": {"type": "null"}}, "required": ["x"], **CLOSED},
    },
    "required": ["name", "count", "kind", "tags", "inner"],
    **CLOSED,
}


def generate(
    daemon: RunningDaemon, loaded: LoadedModel, prompt: Any = "hello", **params: Any
) -> list[GenerateResponse]:
    """Generate to the end, from a text, token ids or a conversation."""
    options = {name: params.pop(name) for name in ("priority", "cache_salt") if name in params}
    request = GenerateRequest(lease=loaded.lease.name, sampling_params=SamplingParams(**params), **options)
    if isinstance(prompt, str):
        request.text = prompt
    elif isinstance(prompt, ChatPrompt):
        request.chat.CopyFrom(prompt)
    else:
        request.tokens.token_ids.extend(prompt)
    return list(daemon.engines.Generate(request, timeout=CALL_SECONDS))


def text(responses: Sequence[GenerateResponse], index: int = 0) -> str:
    """All text of a completion."""
    return "".join(response.text for response in responses if response.index == index)


def ids(responses: Sequence[GenerateResponse], index: int = 0) -> list[int]:
    """All tokens of a completion."""
    return [token for response in responses if response.index == index for token in response.token_ids]


def fits(value: Any) -> bool:
    """Tell whether a value fits `SCHEMA`, read by hand."""
    return (
        isinstance(value, dict)
        and value.keys() == set(SCHEMA["required"])
        and isinstance(value["name"], str)
        and len(value["name"]) <= 8
        and type(value["count"]) is int
        and 0 <= value["count"] <= 99
        and value["kind"] in ("cat", "dog", None)
        and 1 <= len(value["tags"]) <= 3
        and all(type(tag) is bool for tag in value["tags"])
        and value["inner"] == {"x": None}
    )


@pytest.fixture(scope="module")
def reference(
    engine_python: str, model: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[subprocess.Popen[str]]:
    """A direct run of `AsyncLLM`, started before the daemon's engine so that both load at once."""
    job = json.dumps({"prompts": PROMPTS, "max_tokens": 12, "engine_args": ENGINE_ARGS, "logprobs": MOST})
    directory = tmp_path_factory.mktemp("reference")
    with direct_run(engine_python, "reference.py", model, job, directory=directory) as process:
        yield process


def compare(found: Sequence[TokenLogprobs], expected: list[list[list[Any]]]) -> None:
    """Check log probabilities against vLLM's own: the same tokens in the same order, as likely but for rounding."""
    assert [[(c.token_id, c.rank, c.text) for c in place.candidates] for place in found] == [
        [(token, rank, said) for token, _, rank, said in place] for place in expected
    ]
    for place, whole in zip(found, expected, strict=True):
        assert [c.logprob for c in place.candidates] == pytest.approx([one[1] for one in whole], abs=1e-4)


def test_log_probabilities_equal_a_direct_run(
    reference: subprocess.Popen[str], daemon: RunningDaemon, loaded: LoadedModel
) -> None:
    """Those of the completion and of the prompt: values, ranks, order and texts are what `AsyncLLM` gives."""
    greedy = {"temperature": 0, "max_tokens": 12, "ignore_eos": True}
    found = [generate(daemon, loaded, ids, logprobs=MOST, prompt_logprobs=MOST, **greedy) for ids in PROMPTS]
    output, _ = reference.communicate(timeout=LOAD_SECONDS)
    results = [line[7:] for line in output.splitlines() if line.startswith("RESULT ")]
    assert results, output

    for responses, prompt, direct in zip(found, PROMPTS, json.loads(results[0]), strict=True):
        assert ids(responses) == direct["ids"]
        compare([place for response in responses for place in response.logprobs], direct["logprobs"])
        compare(responses[0].prompt_logprobs, direct["prompt_logprobs"])
        assert len(responses[0].prompt_logprobs) == len(prompt)


def test_fifty_answers_fit_their_schema(daemon: RunningDaemon, loaded: LoadedModel) -> None:
    """From a model that says noise, all at once, each with another seed."""
    outputs = StructuredOutputs(json=json.dumps(SCHEMA), disable_any_whitespace=True)

    def answer(seed: int) -> list[GenerateResponse]:
        return generate(daemon, loaded, structured_outputs=outputs, seed=seed, max_tokens=300, temperature=1)

    with concurrent.futures.ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(answer, range(50)))
    values = [json.loads(text(responses)) for responses in answers]

    assert {responses[-1].finish_reason for responses in answers} == {generation_pb2.FINISH_REASON_STOP}
    assert [value for value in values if not fits(value)] == []
    assert len({json.dumps(value) for value in values}) > 25


@pytest.mark.parametrize(
    ("outputs", "pattern"),
    [
        (StructuredOutputs(regex=r"[0-9]{3}-[a-c]{1,4}x"), r"[0-9]{3}-[a-c]{1,4}x"),
        (StructuredOutputs(choice=Choice(texts=["alpha", 'be"t\\a'])), r'alpha|be"t\\a'),
        (StructuredOutputs(grammar='root ::= "(" item ")"\nitem ::= "x" | "y"'), r"\([xy]\)"),
        (StructuredOutputs(json_object=True), r"\{.*\}"),
        (
            StructuredOutputs(
                structural_tag='{"type": "structural_tag", "format": {"type": "const_string", "value": "abc"}}'
            ),
            "abc",
        ),
    ],
)
def test_other_constraints_hold_too(
    daemon: RunningDaemon, loaded: LoadedModel, outputs: StructuredOutputs, pattern: str
) -> None:
    """Five answers each."""
    for seed in range(5):
        said = generate(daemon, loaded, structured_outputs=outputs, seed=seed, max_tokens=400)
        whole = said[-1].finish_reason == generation_pb2.FINISH_REASON_STOP

        assert re.fullmatch(pattern, text(said), re.DOTALL) or (outputs.json_object and not whole)


def test_seeds_reproduce(daemon: RunningDaemon, loaded: LoadedModel) -> None:
    """The same seed gives the same tokens, another one others; each of `n` completions has its own."""
    first, again, other = (
        generate(daemon, loaded, seed=seed, max_tokens=20, ignore_eos=True, n=3) for seed in (7, 7, 8)
    )

    assert [ids(first, index) for index in range(3)] == [ids(again, index) for index in range(3)]
    assert ids(first) != ids(other)
    assert len({tuple(ids(first, index)) for index in range(3)}) == 3


def test_completions_end_each_for_itself(daemon: RunningDaemon, loaded: LoadedModel) -> None:
    """Each with its own reason; the last response has the usage of all."""
    responses = generate(daemon, loaded, n=3, seed=1, max_tokens=30, stop=["e"])
    ends = {response.index: response for response in responses if response.finish_reason}

    assert sorted(ends) == [0, 1, 2]
    assert responses[-1].usage.completion_tokens == sum(len(ids(responses, index)) for index in range(3))
    for index, end in ends.items():
        stopped = end.finish_reason == generation_pb2.FINISH_REASON_STOP and end.stop_reason == "e"
        assert stopped or len(ids(responses, index)) == 30 or not end.stop_reason
        assert "e" not in text(responses, index)


def test_tokens_are_chosen_as_asked(daemon: RunningDaemon, loaded: LoadedModel) -> None:
    """By bias, by permission, without words, with the string that stopped it."""
    some = {"max_tokens": 6, "ignore_eos": True}
    whole = text(generate(daemon, loaded, temperature=0, **some))
    kept = generate(daemon, loaded, temperature=0, stop=[whole[2]], include_stop_str_in_output=True, **some)

    assert ids(generate(daemon, loaded, logit_bias={40: 100.0}, **some)) == [40] * 6
    assert set(ids(generate(daemon, loaded, allowed_token_ids=[40, 41], **some))) <= {40, 41}
    assert text(kept).endswith(whole[2])
    assert 40 not in ids(generate(daemon, loaded, logit_bias={40: 100.0}, bad_words=["C"], **some))


def test_prompts_are_truncated_from_the_front(daemon: RunningDaemon, loaded: LoadedModel) -> None:
    """What is kept is generated from as if it were all, whatever the salt."""
    greedy = {"temperature": 0, "max_tokens": 8, "ignore_eos": True}
    prompt = [5 + index % 300 for index in range(600)]
    truncated = generate(daemon, loaded, prompt, truncate_prompt_tokens=20, cache_salt="a", **greedy)
    far = generate(daemon, loaded, "hello " * 50_000, truncate_prompt_tokens=20, **greedy)

    assert ids(truncated) == ids(generate(daemon, loaded, prompt[-20:], **greedy))
    assert truncated[-1].usage.prompt_tokens == far[-1].usage.prompt_tokens == 20


def test_a_conversation_is_continued(daemon: RunningDaemon, loaded: LoadedModel) -> None:
    """With the prompt that the template makes of it, without the end of its last message."""
    user, begun = ChatMessage(role="user", content="hello"), ChatMessage(role="assistant", content="And so")
    greedy = {"temperature": 0, "max_tokens": 8, "ignore_eos": True}
    chat = ChatPrompt(messages=[user, begun], continue_final_message=True)
    by_hand = "<s><|user|>hello</s><|assistant|>And so"
    continued, plain = generate(daemon, loaded, chat, **greedy), generate(daemon, loaded, by_hand, **greedy)
    begins = {0, 1} & {continued[-1].usage.prompt_tokens - plain[-1].usage.prompt_tokens + add for add in (0, 1)}

    assert begins  # a text may get a second token of its beginning
    assert len(ids(continued)) == 8


REFUSED: list[tuple[str, Any, dict[str, Any], str]] = [
    ("prompt too long", [5] * 600, {}, "PROMPT_TOO_LONG"),
    ("prompt that fills the context", [5] * 512, {}, "PROMPT_TOO_LONG"),
    ("text too long", "hello " * 600, {}, "PROMPT_TOO_LONG"),
    ("text far too long", "hello " * 100_000, {}, "PROMPT_TOO_LONG"),
    ("chat too long", ChatPrompt(messages=[ChatMessage(role="user", content="hi " * 50_000)]), {}, "PROMPT_TOO_LONG"),
    ("foreign token", [512], {}, "TOKEN_OUT_OF_VOCABULARY"),
    ("negative token", [-1], {}, "TOKEN_OUT_OF_VOCABULARY"),
    ("empty", "", {}, "INVALID_FIELD"),
    ("foreign stop token", "x", {"stop_token_ids": [512]}, "TOKEN_OUT_OF_VOCABULARY"),
    ("foreign bias", "x", {"logit_bias": {512: 1.0}}, "TOKEN_OUT_OF_VOCABULARY"),
    ("foreign permission", "x", {"allowed_token_ids": [512]}, "TOKEN_OUT_OF_VOCABULARY"),
    ("too many logprobs", "x", {"logprobs": 21}, "INVALID_SAMPLING_PARAMS"),
    ("NaN", "x", {"temperature": math.nan}, "INVALID_SAMPLING_PARAMS"),
    ("no role", ChatPrompt(messages=[ChatMessage(role="wizard", content="x")]), {}, "INVALID_TEMPLATE"),
    ("priority", "x", {"priority": 3}, "PRIORITY_UNSUPPORTED"),
    *(
        (f"{kind} {value}", "x", {"structured_outputs": {kind: value}}, "INVALID_STRUCTURED_OUTPUTS")
        for kind, value in (
            ("json", '{"type": "nope"}'),
            ("json", '{"$ref": "#/definitions/x"}'),
            ("json", '{"$ref": "#"}'),
            ("json", '{"type": "integer", "minimum": 5, "maximum": 1}'),
            ("json", '{"type": "array", "uniqueItems": true}'),
            ("json", '{"type": "object", "required": 5}'),
            ("json", '{"items":' * 70 + "{}" + "}" * 70),
            ("regex", "("),
            ("regex", "[z-a]"),
            ("regex", r"(a)\1"),
            ("grammar", "root ::= "),
            ("grammar", "root ::= foo"),
            ("grammar", 'root ::= root "a"'),
            ("grammar", 'start: "a'),
            ("structural_tag", "{}"),
            ("structural_tag", "[]"),
        )
    ),
]  # fmt: skip


def test_what_is_refused_leaves_the_engine_serving(daemon: RunningDaemon, loaded: LoadedModel) -> None:
    """Each has its own reason, nothing runs on, and the next generation is what it always is."""
    greedy = {"temperature": 0, "max_tokens": 5, "ignore_eos": True}
    before = ids(generate(daemon, loaded, **greedy))
    pid, found = daemon.engine(loaded.engine.name).pid, dict[str, str]()
    for name, prompt, params, _ in REFUSED:
        with pytest.raises(grpc.RpcError) as refused:
            generate(daemon, loaded, prompt, **{"max_tokens": 9} | params)
        found[name] = reason_of(refused.value)
    until(lambda: daemon.engine(loaded.engine.name).running_count == 0, "the end of what was refused")

    assert found == {name: reason for name, *_, reason in REFUSED}
    assert ids(generate(daemon, loaded, **greedy)) == before
    assert daemon.engine(loaded.engine.name).pid == pid
