"""Batches, vectors and tokens of real engines: a generating Llama, a BERT, and the same Llama as a model that pools."""

from __future__ import annotations

import json
import math
import pathlib
import subprocess
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests import tiny_bert
from tests.fakes.served import reason_of
from tests.host.running import RunningDaemon, cores_of, home, kill, load_request, until
from tests.real.conftest import ENGINE_ARGS, LOAD_SECONDS, direct_run
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1 import generation_pb2
from vllmd.v1.generation_pb2 import ChatMessage, ChatPrompt, Prompt, SamplingParams, TokenPrompt

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(LOAD_SECONDS + 300), pytest.mark.xdist_group("vllm-inputs")]

SMALL: dict[str, Any] = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_num_seqs": 16,
    "kv_cache_memory_bytes": 64 << 20,
}
POOLING: dict[str, Any] = SMALL | {"runner": "pooling", "convert": "embed", "max_model_len": 512}
INPUTS = [[5 + (7 * index + step) % 100 for step in range(2 + 5 * index)] for index in range(12)]
LONGEST_BERT = 128
TEXTS = ["hello the brown fox", "The daemon owns every engine on its host.", "é🦆 \n\t 1234", "x"]


@pytest.fixture(scope="module")
def bert(engine_python: str, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A tiny random embedding model."""
    path = tmp_path_factory.mktemp("bert") / "tiny"
    tiny_bert.make_with(engine_python, path)
    return path


@pytest.fixture(scope="module")
def reference(
    engine_python: str, model: pathlib.Path, bert: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[subprocess.Popen[str]]:
    """Direct runs of `LLM.embed`, in a process of their own, while the daemon's engines load."""
    jobs = [
        {"model": str(bert), "inputs": INPUTS, "engine_args": SMALL},
        {"model": str(model), "inputs": INPUTS, "engine_args": POOLING},
    ]
    directory = tmp_path_factory.mktemp("reference")
    with direct_run(engine_python, "reference_vectors.py", json.dumps(jobs), directory=directory) as process:
        yield process


@pytest.fixture(scope="module")
def own(engine_python: str) -> Iterator[RunningDaemon]:
    """A daemon for this file alone."""
    with home("--engine-python", engine_python, "--restart-limit", "0") as place:
        yield place.start()


def load(daemon: RunningDaemon, model: pathlib.Path, engine_args: dict[str, Any]) -> pb.LoadedModel:
    """Load to the end."""
    request = load_request(str(model), **engine_args)
    request.lease_ttl.FromSeconds(3600)  # the others take minutes to load
    *_, last = daemon.engines.LoadModel(request, timeout=LOAD_SECONDS)
    return last.loaded


@pytest.fixture(scope="module")
def vectors(reference: subprocess.Popen[str]) -> list[list[list[list[float]]]]:
    """What vLLM itself makes: for BERT and Llama, scaled and as they are, a vector of each of `INPUTS`."""
    output, _ = reference.communicate(timeout=LOAD_SECONDS)
    results = [line[7:] for line in output.splitlines() if line.startswith("RESULT ")]
    assert results, output
    found: list[list[list[list[float]]]] = json.loads(results[0])
    return found


@pytest.fixture(scope="module")
def embedding(own: RunningDaemon, bert: pathlib.Path, reference: subprocess.Popen[str]) -> pb.LoadedModel:
    """The BERT."""
    del reference  # begun before
    return load(own, bert, SMALL)


@pytest.fixture(scope="module")
def pooling(own: RunningDaemon, model: pathlib.Path, embedding: pb.LoadedModel) -> pb.LoadedModel:
    """The Llama, for vectors."""
    del embedding  # one after the other
    return load(own, model, POOLING)


@pytest.fixture(scope="module")
def generating(own: RunningDaemon, model: pathlib.Path, pooling: pb.LoadedModel) -> pb.LoadedModel:
    """The Llama, for text."""
    del pooling
    return load(own, model, ENGINE_ARGS)


def tokens(token_ids: list[int]) -> Prompt:
    return Prompt(tokens=TokenPrompt(token_ids=token_ids))


def embed(daemon: RunningDaemon, loaded: pb.LoadedModel, *inputs: Prompt, **more: Any) -> dict[int, pb.EmbedResponse]:
    """Embed to the end; what became of each input, by its index."""
    request = pb.EmbedRequest(lease=loaded.lease.name, inputs=inputs, **more)
    return {response.input_index: response for response in daemon.engines.Embed(request, timeout=120)}


def cosine(one: Any, other: Any) -> float:
    products = sum(a * b for a, b in zip(one, other, strict=True))
    return float(products / math.hypot(*one) / math.hypot(*other))


def check(
    daemon: RunningDaemon, loaded: pb.LoadedModel, expected: list[list[list[float]]], inputs: list[list[int]]
) -> None:
    """Compare the vectors with vLLM's own."""
    for normalize, of_vllm in zip((True, False), expected, strict=True):
        found = embed(daemon, loaded, *map(tokens, inputs), normalize=normalize)
        assert found.keys() == set(range(len(inputs)))
        for index, numbers in enumerate(of_vllm):
            vector = found[index].embedding
            assert vector.prompt_tokens == len(inputs[index])
            assert cosine(vector.values, numbers) > 0.99999
            assert list(vector.values) == pytest.approx(numbers, rel=1e-3, abs=1e-4)
            assert (math.hypot(*vector.values) == pytest.approx(1, abs=1e-5)) == normalize


def test_vectors_of_a_bert_are_vllms(own: RunningDaemon, embedding: pb.LoadedModel, vectors: Any) -> None:
    """Scaled to length 1 or not; the engine says what it is for."""
    check(own, embedding, vectors[0], INPUTS)

    assert embedding.engine.report.runner_type == "pooling"
    assert embedding.engine.report.max_model_len == LONGEST_BERT
    assert len({tuple(numbers) for numbers in vectors[0][0]}) == len(INPUTS)


def test_vectors_of_a_generating_model_are_vllms(own: RunningDaemon, pooling: pb.LoadedModel, vectors: Any) -> None:
    """Loaded with runner=pooling, as the error of one that was not says."""
    check(own, pooling, vectors[1], INPUTS)

    assert pooling.engine.report.runner_type == "pooling"


def test_inputs_of_each_kind_and_bad_ones(own: RunningDaemon, embedding: pb.LoadedModel) -> None:
    """A text is as good as its tokens; one that is too long, or has foreign tokens, gets an error of its own."""
    text = own.engines.Tokenize(pb.TokenizeRequest(lease=embedding.lease.name, prompt=Prompt(text=TEXTS[0])))
    found = embed(
        own, embedding, Prompt(text=TEXTS[0]), tokens(list(text.token_ids)), Prompt(text="fox " * 200), tokens([9999])
    )
    cut = embed(own, embedding, Prompt(text="fox " * 200), truncate_prompt_tokens=10)

    assert list(found[0].embedding.values) == pytest.approx(list(found[1].embedding.values), abs=1e-5)
    assert (found[2].failure.reason, found[2].failure.metadata["max_model_len"]) == ("PROMPT_TOO_LONG", "128")
    assert found[3].failure.reason == "TOKEN_OUT_OF_VOCABULARY"
    assert cut[0].embedding.prompt_tokens == 10


def test_dimensions_are_refused_without_matryoshka(own: RunningDaemon, embedding: pb.LoadedModel) -> None:
    """With the number that there are."""
    with pytest.raises(grpc.RpcError, match="have 64 numbers and can't be shortened") as refused:
        embed(own, embedding, Prompt(text="x"), dimensions=8)

    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION


def test_engines_do_what_they_are_for(own: RunningDaemon, pooling: pb.LoadedModel, generating: pb.LoadedModel) -> None:
    """And say what else would."""
    with pytest.raises(grpc.RpcError, match="Use Embed") as text:
        list(own.engines.Generate(pb.GenerateRequest(lease=pooling.lease.name, text="x"), timeout=60))
    with pytest.raises(grpc.RpcError, match="runner=pooling and convert=embed") as vector:
        embed(own, generating, Prompt(text="x"))

    assert text.value.code() == vector.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert generating.engine.report.runner_type == "generate"


def test_tokens_are_those_of_a_generation(own: RunningDaemon, generating: pb.LoadedModel) -> None:
    """Of texts, tokens and conversations: as many as it counts, and the same text comes of them."""
    lease = generating.lease.name
    prompts = [Prompt(text=text) for text in TEXTS] + [tokens([9, 10])]
    prompts.append(Prompt(chat=ChatPrompt(messages=[ChatMessage(role="user", content="hello")])))
    made = [own.engines.Tokenize(pb.TokenizeRequest(lease=lease, prompt=prompt), timeout=60) for prompt in prompts]
    batch = generate(own, generating, *prompts)
    of_tokens = generate(own, generating, *[tokens(list(one.token_ids)) for one in made])
    texts = [
        own.engines.Detokenize(pb.DetokenizeRequest(lease=lease, token_ids=one.token_ids), timeout=60).text
        for one in made
    ]

    for index, one in enumerate(made):
        assert len(one.token_ids) == batch[index].generated.usage.prompt_tokens
        assert batch[index].generated.completions == of_tokens[index].generated.completions
        assert one.max_model_len == ENGINE_ARGS["max_model_len"]
    assert texts[: len(TEXTS)] == TEXTS
    assert texts[-1] == "<s><|user|>hello</s><|assistant|>"


def test_tokens_of_an_embedding_model(own: RunningDaemon, embedding: pb.LoadedModel) -> None:
    """With what its tokenizer puts around a text, or without; each as the tokenizer writes it."""
    lease, prompt = embedding.lease.name, Prompt(text="hello foxes")
    whole = own.engines.Tokenize(pb.TokenizeRequest(lease=lease, prompt=prompt, return_token_texts=True))
    bare = own.engines.Tokenize(pb.TokenizeRequest(lease=lease, prompt=prompt, add_special_tokens=False))
    back = own.engines.Detokenize(
        pb.DetokenizeRequest(lease=lease, token_ids=whole.token_ids, skip_special_tokens=True)
    )

    assert list(whole.token_texts) == ["[CLS]", "hello", "fox", "##e", "##s", "[SEP]"]
    assert whole.token_ids[1:-1] == bare.token_ids
    assert back.text == "hello foxes"
    assert embed(own, embedding, prompt)[0].embedding.prompt_tokens == len(whole.token_ids)


def test_a_text_longer_than_the_context_has_tokens_too(own: RunningDaemon, generating: pb.LoadedModel) -> None:
    """Whoever wants to know how long it is; others' generations go on meanwhile."""
    request = pb.TokenizeRequest(lease=generating.lease.name, prompt=Prompt(text="the daemon " * 50_000))
    asked = own.engines.Tokenize.future(request, timeout=120)
    answered = generate(own, generating, tokens([5, 6]))
    found = asked.result()

    assert len(answered) == 1
    assert len(found.token_ids) >= 100_000
    with pytest.raises(grpc.RpcError, match="outside the model's vocabulary of 512: 512") as foreign:
        own.engines.Detokenize(pb.DetokenizeRequest(lease=generating.lease.name, token_ids=[512]))
    assert reason_of(foreign.value) == "TOKEN_OUT_OF_VOCABULARY"


def generate(daemon: RunningDaemon, loaded: pb.LoadedModel, *prompts: Prompt) -> dict[int, pb.GenerateBatchResponse]:
    """Generate greedily from all; what became of each prompt, by its index."""
    params = SamplingParams(temperature=0, max_tokens=16, ignore_eos=True)
    request = pb.GenerateBatchRequest(lease=loaded.lease.name, prompts=prompts, sampling_params=params)
    return {response.prompt_index: response for response in daemon.engines.GenerateBatch(request, timeout=120)}


def test_a_batch_has_what_single_generations_have(own: RunningDaemon, generating: pb.LoadedModel) -> None:
    """Token for token, for more prompts than go at once; bad ones have their own errors."""
    prompts = [tokens([3 + (7 * index + step) % 500 for step in range(5 + index % 11)]) for index in range(200)]
    found = generate(own, generating, *prompts, tokens([512]), tokens([5] * 600), Prompt(text=""))
    params = SamplingParams(temperature=0, max_tokens=16, ignore_eos=True)
    for index in (0, 17, 199):
        request = pb.GenerateRequest(lease=generating.lease.name, tokens=prompts[index].tokens, sampling_params=params)
        alone = [token for response in own.engines.Generate(request, timeout=60) for token in response.token_ids]
        assert list(found[index].generated.completions[0].token_ids) == alone

    assert found.keys() == set(range(203))
    assert found[200].failure.reason == "TOKEN_OUT_OF_VOCABULARY"
    assert all(found[index].HasField("failure") for index in (200, 201, 202))
    assert {found[index].generated.completions[0].finish_reason for index in range(200)} == {
        generation_pb2.FINISH_REASON_LENGTH
    }


def test_a_killed_core_ends_batches_and_vectors(
    own: RunningDaemon, generating: pb.LoadedModel, embedding: pb.LoadedModel
) -> None:
    """Batches UNAVAILABLE, after what was complete; whoever asks for a vector next is told, too."""
    params = SamplingParams(max_tokens=400, ignore_eos=True)
    prompts = [tokens([5, index]) for index in range(200)]
    request = pb.GenerateBatchRequest(lease=generating.lease.name, prompts=prompts, sampling_params=params)
    cores = [core for one in (generating, embedding) for core in cores_of(own.engine(one.engine.name).pid)]
    call = own.engines.GenerateBatch(request, timeout=120)
    until(lambda: own.engine(generating.engine.name).generated_token_count > 1000, "tokens")
    for core in cores:
        kill(core)
    with pytest.raises(grpc.RpcError) as died:
        list(call)
    with pytest.raises(grpc.RpcError) as gone:
        until(lambda: not embed(own, embedding, Prompt(text="x")), "the end of the engine")

    assert died.value.code() == grpc.StatusCode.UNAVAILABLE
    assert reason_of(died.value) == "ENGINE_DIED"
    assert gone.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND)
