"""The SDK: a synchronous client of one vllmd daemon.

    from vllmd.client import Client

    with Client() as client, client.load("Qwen/Qwen3-8B") as model:
        for response in model.generate("Once upon a time", max_tokens=64):
            print(response.text, end="", flush=True)

Owns the channel, the building of requests and the translation of failures into `VllmdError`. Knows the
protos and nothing of the daemon. What has no I/O (`requests`, `errors`, `generation`, `target`) stands apart
from what has (`connection`, `client`, `loaded`), so that an asyncio client can share the former.
"""

from vllmd.client.client import Client
from vllmd.client.connection import Stream
from vllmd.client.errors import DaemonUnreachable, VllmdError
from vllmd.client.generation import Generation
from vllmd.client.loaded import LoadedModel
from vllmd.client.requests import Prompt, SamplingOptions, Seconds, engine_name, lease_name
from vllmd.client.target import default_target

__all__ = [
    "Client",
    "DaemonUnreachable",
    "Generation",
    "LoadedModel",
    "Prompt",
    "SamplingOptions",
    "Seconds",
    "Stream",
    "VllmdError",
    "default_target",
    "engine_name",
    "lease_name",
]
