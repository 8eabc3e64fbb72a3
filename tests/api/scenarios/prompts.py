"""Prompts, parameters and adapters that can't be."""

from __future__ import annotations

from typing import Any

import grpc

from tests.api.scenarios.calls import Scenario, calling, daemon, generating, loading, prompt, refused, vllm_says
from vllmd.v1 import engine_pb2, generation_pb2
from vllmd.v1 import engine_service_pb2 as pb


async def _no_message() -> grpc.aio.AioRpcError:
    async with daemon() as (_, served):
        channel: Any = served.channel  # its stubs know no bytes
        return await refused(channel.unary_unary("/vllmd.v1.EngineService/GetEngine")(b"\xff"))


async def _vectors_of_what_generates() -> grpc.aio.AioRpcError:
    async with daemon() as (_, served):
        lease = (await served.load()).lease.name
        return await refused(served.engines.Embed(pb.EmbedRequest(lease=lease, inputs=[_said("a")])))


async def _too_short_vectors() -> grpc.aio.AioRpcError:
    async with daemon() as (_, served):
        lease = (await served.load(runner="pooling")).lease.name
        return await refused(served.engines.Embed(pb.EmbedRequest(lease=lease, inputs=[_said("a")], dimensions=3)))


def _said(text: str) -> generation_pb2.Prompt:
    return generation_pb2.Prompt(text=text)


def _with(**params: Any) -> Scenario:
    return generating(pb.GenerateRequest(text="one two", sampling_params=generation_pb2.SamplingParams(**params)))


_IMAGE = generation_pb2.ChatMessage(role="user", parts=[generation_pb2.ContentPart(image_url="data:x")])
_TOKENS = generation_pb2.TokenPrompt(token_ids=[1, 5000])
_MANY = pb.GenerateBatchRequest(engine="engines/e", prompts=[_said("a")] * 10_001)

SCENARIOS: dict[str, Scenario] = {
    "MALFORMED_REQUEST": _no_message,
    "CONTENT_UNSUPPORTED": generating(pb.GenerateRequest(chat=generation_pb2.ChatPrompt(messages=[_IMAGE]))),
    "INVALID_SAMPLING_PARAMS": _with(temperature=-1, top_p=2),
    "INVALID_STRUCTURED_OUTPUTS": _with(structured_outputs=generation_pb2.StructuredOutputs(json="{")),
    "PROMPT_TOO_LONG": generating(pb.GenerateRequest(text="a " * 5000)),
    "TOKEN_OUT_OF_VOCABULARY": generating(pb.GenerateRequest(tokens=_TOKENS)),
    "PRIORITY_UNSUPPORTED": generating(pb.GenerateRequest(text="a", priority=1)),
    "TOO_MANY_PROMPTS": calling("engines", "GenerateBatch", _MANY),
    "NOT_A_GENERATING_MODEL": generating(prompt(), runner="pooling"),
    "NOT_AN_EMBEDDING_MODEL": _vectors_of_what_generates,
    "DIMENSIONS_UNSUPPORTED": _too_short_vectors,
    "LORA_NOT_FOUND": generating(prompt(lora="sql")),
    "INVALID_LORA": loading(
        pb.LoadModelRequest(model="a/b", lora_adapters=[engine_pb2.LoraAdapter(name="a b", path="/x")])
    ),
    "LORA_UNSUPPORTED": vllm_says("ValueError: MambaForCausalLM does not support LoRA yet."),
    "SLEEP_UNSUPPORTED": vllm_says("ValueError: Sleep mode is not supported on current platform."),
    "VLLM_BROKEN": vllm_says("AttributeError: '_OpNamespace' '_C' object has no attribute 'init_cpu_threads_env'"),
    "MODEL_UNREADABLE": vllm_says("FileNotFoundError: No such file or directory: /models/tiny/model.safetensors"),
}

UNTRIED = {
    "READER_TOO_SLOW": "takes 64 MiB that nobody reads; test_streams.py has it, and test_bad_surroundings.py",
    "INVALID_PROMPT_OR_PARAMS": "what vLLM refuses for a reason that we do not know; test_link.py has it",
    "NO_CHAT_TEMPLATE": "takes a model without one; test_vllm_prompts.py has it, and real vLLM",
    "INVALID_TEMPLATE": "takes a chat template; test_vllm_prompts.py has it, and real vLLM",
    "NO_TOKENIZER": "takes an engine of vLLM's without one; test_vllm_inputs.py has it",
    "WHITESPACE_UNSUPPORTED": "takes a compiler of vLLM's; test_vllm_structured.py has it",
    "RESULT_TOO_LARGE": "is told for one prompt of a batch, not as the call's; test_batch.py has it",
    "ANSWER_TOO_LARGE": "takes an answer of 16 MiB; test_server_completions.py has it",
    "ENGINE_OUTDATED": "takes an engine of an earlier vllmd; test_outdated.py has it",
}
