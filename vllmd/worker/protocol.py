"""The link between daemon and worker: what is said, and how it is framed.

A Unix stream socket on which the *worker* listens. Each frame is a 4-byte big-endian length and a msgpack
body. The worker speaks first, with `Hello`; then commands go down and events come up. A connection that
ends takes its streams with it: the worker aborts them, since nobody would read their tokens.

Compatibility: structs are arrays on the wire, so a new field goes to the end and has a default; `PROTOCOL`
goes up when an old peer could misread a frame, and the daemon speaks the current and the previous one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

PROTOCOL = 2
"""The version that this worker speaks. 2: `Ping` and `Pong`."""

SPOKEN = (1, 2)
"""The versions that the daemon understands: after an upgrade it takes over workers of the version before."""

MAX_FRAME_BYTES = 64 << 20
"""A longer frame is a broken peer: the longest prompt that a model takes is a few MiB."""

_HEADER_BYTES = 4


Size = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""What other peers of the daemon can be told as well."""


class Measured(msgspec.Struct, array_like=True, frozen=True):
    """What vLLM measured on its fullest GPU during the load, in bytes. What it does not say is `None`."""

    weights_bytes: Size | None = None
    activation_bytes: Size | None = None
    """Peak of the forward pass that vLLM makes to measure it."""
    other_bytes: Size | None = None
    """Of CUDA and its libraries, beyond what PyTorch allocates."""
    kv_cache_bytes: Size | None = None
    graphs_bytes: Size | None = None
    """CUDA graphs; 0 for an engine without."""
    max_num_seqs: Size | None = None
    """Sequences that the engine runs at once; with the next, what the activations depend on."""
    max_num_batched_tokens: Size | None = None


class EngineInfo(msgspec.Struct, array_like=True, frozen=True):
    """What the engine reports about itself once it is ready."""

    vllm_version: str
    max_model_len: int
    """Longest prompt plus completion, in tokens."""
    kv_cache_tokens: int | None = None
    """Tokens that the KV cache holds over all sequences; `None` if the engine does not say."""
    dtype: str = ""
    vocab_size: int | None = None
    measured: Measured | None = None
    """`None` also from workers of before, and if it could not be read."""


class Hello(msgspec.Struct, array_like=True, frozen=True, tag="hello"):
    """First frame of every connection, from the worker."""

    protocol: int
    vllmd_version: str
    pid: int
    engine: EngineInfo
    capabilities: tuple[str, ...] = ()
    """What this vLLM can do, found by looking at its fields and signatures, such as `sleep`."""


class TextPrompt(msgspec.Struct, array_like=True, frozen=True, tag="text"):
    """A prompt that the engine tokenizes as it is."""

    text: str


class TokenPrompt(msgspec.Struct, array_like=True, frozen=True, tag="tokens"):
    """A prompt in token ids of the model's vocabulary."""

    token_ids: list[int]


class ChatPrompt(msgspec.Struct, array_like=True, frozen=True, tag="chat"):
    """A conversation that the model's chat template turns into a prompt."""

    messages: list[dict[str, str]]
    """Each has `role` and `content`."""
    template_args: dict[str, Any]


Prompt = TextPrompt | TokenPrompt | ChatPrompt


class Generate(msgspec.Struct, array_like=True, frozen=True, tag="generate"):
    """Starts a stream."""

    stream: int
    """Chosen by the daemon, never used twice on one connection."""
    prompt: Prompt
    sampling_params: dict[str, Any]
    """Keyword arguments of vLLM's `SamplingParams`; only those that the client set."""


class Abort(msgspec.Struct, array_like=True, frozen=True, tag="abort"):
    """Ends streams that nobody reads any more. Unknown ones are ignored: they may just have ended."""

    streams: list[int]


class Ping(msgspec.Struct, array_like=True, frozen=True, tag="ping"):
    """Asks for an answer that has been through EngineCore; since protocol 2."""

    number: int


Command = Generate | Abort | Ping


class Delta(msgspec.Struct, array_like=True):
    """What one stream got since its last delta."""

    stream: int
    text: str
    token_ids: list[int]
    finish_reason: str | None = None
    """vLLM's word (`stop`, `length`, `abort`, …); `None` while the stream goes on."""
    stop_reason: str | int | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0


class Step(msgspec.Struct, array_like=True, frozen=True, tag="step"):
    """The deltas of all streams of one engine step."""

    sent_ns: int
    """`time.monotonic_ns()` of the worker, which is the host's clock: the reader can tell how late it is."""
    deltas: list[Delta]


class Refused(msgspec.Struct, array_like=True, frozen=True, tag="refused"):
    """A stream that ended with an error."""

    stream: int
    kind: str
    """`invalid`: the request can't be served as it is; `internal`: the engine failed at it; `dead`: the
    engine is gone."""
    message: str


class Pong(msgspec.Struct, array_like=True, frozen=True, tag="pong"):
    """EngineCore has answered the ping of that number."""

    number: int


class Dead(msgspec.Struct, array_like=True, frozen=True, tag="dead"):
    """The engine has failed for good; the worker ends right after this."""

    message: str


Event = Hello | Step | Refused | Pong | Dead

_encoder = msgspec.msgpack.Encoder()
command_decoder = msgspec.msgpack.Decoder(Command)
event_decoder = msgspec.msgpack.Decoder(Event)


class ProtocolError(Exception):
    """The peer sent something that is no frame of this protocol."""


def frame(message: Command | Event) -> bytes:
    """Encode *message* with its length in front."""
    body = _encoder.encode(message)
    return len(body).to_bytes(_HEADER_BYTES, "big") + body


class FrameSplitter:
    """Cuts a byte stream into the bodies of frames, whatever chunks it comes in."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes | memoryview) -> Iterator[bytes]:
        """Yield the bodies completed by *chunk*.

        Raises:
            ProtocolError: a frame says that it is longer than `MAX_FRAME_BYTES`.
        """
        rest = self._rest
        rest += chunk
        start = 0
        try:
            while len(rest) - start >= _HEADER_BYTES:
                size = int.from_bytes(rest[start : start + _HEADER_BYTES], "big")
                if size > MAX_FRAME_BYTES:
                    raise ProtocolError(f"frame of {size} bytes; the limit is {MAX_FRAME_BYTES}")
                end = start + _HEADER_BYTES + size
                if len(rest) < end:
                    break
                body = bytes(rest[start + _HEADER_BYTES : end])
                start = end
                yield body
        finally:  # also when the caller has seen enough for now
            del rest[:start]
