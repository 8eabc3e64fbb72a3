"""The SDK: a client of one vllmd daemon, for threads and for asyncio.

    from vllmd.client import Client

    with Client() as client, client.load("Qwen/Qwen3-8B") as llm:
        for response in llm.generate("Once upon a time", max_tokens=64):
            print(response.text, end="", flush=True)

Owns the channel, the building of requests, the translation of failures into `VllmdError`, and the keeping of leases.
Knows the protos and nothing of the daemon. What decides has no I/O (`requests`, `answers`, `translation`, `retries`,
`keeping`), and is shared by what has: `connection`, `keeper`, `client` and `loaded` here, and their likes in `aio`.
"""

from vllmd.client.aio.client import AsyncClient
from vllmd.client.aio.connection import AsyncStream
from vllmd.client.aio.event_stream import AsyncEventStream
from vllmd.client.aio.loaded import AsyncLoadedModel
from vllmd.client.answers import BatchResult
from vllmd.client.client import Client
from vllmd.client.connection import Stream
from vllmd.client.errors import (
    Cancelled,
    DaemonUnreachable,
    DeadlineExceeded,
    Denied,
    EngineFailed,
    Exhausted,
    InvalidRequest,
    NotFound,
    NotPossible,
    Unauthenticated,
    Unavailable,
    VllmdError,
)
from vllmd.client.event_stream import EventStream
from vllmd.client.generation import Completion, Generation, finish_reason_of
from vllmd.client.loaded import LoadedModel
from vllmd.client.prompts import ChatOptions, Message, Prompt, chat_prompt
from vllmd.client.requests import (
    BatchOptions,
    EmbedOptions,
    GenerateOptions,
    ModelOptions,
    UseCaseName,
    engine_name,
    lease_name,
)
from vllmd.client.sampling import SamplingOptions, StructuredOutputs
from vllmd.client.target import default_target
from vllmd.client.values import Seconds
from vllmd.v1.engine_pb2 import Engine, Lease, LoadProgress
from vllmd.v1.engine_service_pb2 import GenerateResponse
from vllmd.v1.event_pb2 import Event
from vllmd.v1.generation_pb2 import Usage

__all__ = [
    "AsyncClient",
    "AsyncEventStream",
    "AsyncLoadedModel",
    "AsyncStream",
    "BatchOptions",
    "BatchResult",
    "Cancelled",
    "ChatOptions",
    "Client",
    "Completion",
    "DaemonUnreachable",
    "DeadlineExceeded",
    "Denied",
    "EmbedOptions",
    "Engine",
    "EngineFailed",
    "Event",
    "EventStream",
    "Exhausted",
    "GenerateOptions",
    "GenerateResponse",
    "Generation",
    "InvalidRequest",
    "Lease",
    "LoadProgress",
    "LoadedModel",
    "Message",
    "ModelOptions",
    "NotFound",
    "NotPossible",
    "Prompt",
    "SamplingOptions",
    "Seconds",
    "Stream",
    "StructuredOutputs",
    "Unauthenticated",
    "Unavailable",
    "Usage",
    "UseCaseName",
    "VllmdError",
    "chat_prompt",
    "default_target",
    "engine_name",
    "finish_reason_of",
    "lease_name",
]
