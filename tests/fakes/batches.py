"""Results of batches and embeddings as a daemon would send them."""

from __future__ import annotations

from google.rpc import code_pb2

from vllmd.v1 import engine_pb2, generation_pb2
from vllmd.v1 import engine_service_pb2 as pb


def generated(index: int, *texts: str) -> pb.GenerateBatchResponse:
    """The completions of one prompt."""
    completions = [
        pb.Completion(text=text, token_ids=[number], finish_reason=generation_pb2.FINISH_REASON_STOP)
        for number, text in enumerate(texts)
    ]
    usage = generation_pb2.Usage(prompt_tokens=3, completion_tokens=len(texts))
    return pb.GenerateBatchResponse(prompt_index=index, generated=pb.Generated(completions=completions, usage=usage))


def too_long() -> engine_pb2.Failure:
    """What became of a prompt that no context holds."""
    message = "the prompt has 9000 tokens, and the context 8192"
    metadata = {"prompt_tokens": "9000"}
    return engine_pb2.Failure(
        code=code_pb2.INVALID_ARGUMENT, reason="PROMPT_TOO_LONG", message=message, metadata=metadata
    )


def embedded(index: int, *values: float) -> pb.EmbedResponse:
    """The vector of one input."""
    return pb.EmbedResponse(input_index=index, embedding=pb.Embedding(values=values, prompt_tokens=3))
