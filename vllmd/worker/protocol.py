"""The link between daemon and worker: what is said, and how it is framed.

A Unix stream socket on which the *worker* listens. Each frame is a 4-byte big-endian length and a msgpack
body. The worker speaks first, with `Hello`; then commands go down and events come up. A connection that
ends takes its streams with it: the worker aborts them, since nobody would read their tokens.

Compatibility: structs are arrays on the wire, so a new field goes to the end and has a default; `PROTOCOL`
goes up when an old peer could misread a frame, and the daemon speaks the current and the previous one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from .report import EngineInfo

PROTOCOL = 3
"""The version that this worker speaks. 2: `Ping` and `Pong`. 3: what `Generate` has after `sampling_params`, several
completions of a stream, log probabilities, and `Embed`, `Tokenize` and `Detokenize`."""

SPOKEN = (1, 2, 3)
"""The versions that the daemon understands: after an upgrade it takes over workers of the version before."""

MAX_STEP_BYTES = 16 << 20
"""Of a `Step`: half a million log probabilities, which the daemon reads on the loop that serves everybody."""

MAX_FRAME_BYTES = 64 << 20
"""A longer frame is a broken peer: the longest prompt that a model takes is a few MiB."""

_HEADER_BYTES = 4


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

    messages: list[dict[str, Any]]
    """Each has `role` and `content`; some have `name`, `tool_calls` or `tool_call_id`."""
    template_args: dict[str, Any]
    continue_final_message: bool = False
    """Goes on with the last message in place of beginning an answer; since protocol 3, as is the next."""
    tools: list[dict[str, Any]] = []


Prompt = TextPrompt | TokenPrompt | ChatPrompt


class Generate(msgspec.Struct, array_like=True, frozen=True, tag="generate"):
    """Starts a stream."""

    stream: int
    """Chosen by the daemon, never used twice on one connection."""
    prompt: Prompt
    sampling_params: dict[str, Any]
    """Keyword arguments of vLLM's `SamplingParams`; only those that the client set."""
    priority: int = 0
    """Lower ones are scheduled first; since protocol 3, as is all that follows."""
    cache_salt: str = ""
    lora: str = ""
    """The name of an adapter of the spec; empty for none."""
    truncate_prompt_tokens: int | None = None
    """Keeps the last so many of the prompt."""
    whole: bool = False
    """Each completion comes in one delta, once it has ended."""


class Embed(msgspec.Struct, array_like=True, frozen=True, tag="embed"):
    """Asks for the vector of an input; answered by `Embedded`, or `Refused`. Since protocol 3."""

    stream: int
    """Of the same numbers as those of `Generate`; `Abort` ends it."""
    prompt: Prompt
    dimensions: int | None = None
    normalize: bool | None = None
    truncate_prompt_tokens: int | None = None
    """Keeps the first so many of the input."""
    priority: int = 0
    lora: str = ""


class Tokenize(msgspec.Struct, array_like=True, frozen=True, tag="tokenize"):
    """Asks for the tokens of a prompt; answered by `Tokenized`, or `Refused`. Since protocol 3."""

    stream: int
    prompt: Prompt
    add_special_tokens: bool | None = None
    """`None` for what `Generate` does."""
    texts: bool = False
    """Whether each token is wanted as text, too."""


class Detokenize(msgspec.Struct, array_like=True, frozen=True, tag="detokenize"):
    """Asks for the text of tokens; answered by `Detokenized`, or `Refused`. Since protocol 3."""

    stream: int
    token_ids: list[int]
    skip_special_tokens: bool = False


class Abort(msgspec.Struct, array_like=True, frozen=True, tag="abort"):
    """Ends streams that nobody reads any more. Unknown ones are ignored: they may just have ended."""

    streams: list[int]


class Ping(msgspec.Struct, array_like=True, frozen=True, tag="ping"):
    """Asks for an answer that has been through EngineCore; since protocol 2."""

    number: int


Question = Embed | Tokenize | Detokenize

Command = Generate | Question | Abort | Ping


class Candidate(msgspec.Struct, array_like=True, frozen=True):
    """A token that could have stood at a place."""

    token_id: int
    logprob: float
    rank: int
    """From 1; 0 if vLLM does not say."""
    text: str


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
    index: int = 0
    """Which completion of the stream; since protocol 3, as is all that follows."""
    logprobs: list[list[Candidate]] | None = None
    """For each token the candidates, that token first; `None` if they were not asked for."""
    prompt_logprobs: list[list[Candidate]] | None = None
    """Likewise for each token of the prompt, nothing for its first; in the first delta only."""
    last: bool = True
    """With a finish reason: whether no other completion of this stream still runs."""


class Step(msgspec.Struct, array_like=True, frozen=True, tag="step"):
    """The deltas of all streams of one engine step."""

    sent_ns: int
    """`time.monotonic_ns()` of the worker, which is the host's clock: the reader can tell how late it is."""
    deltas: list[Delta]


class Refused(msgspec.Struct, array_like=True, frozen=True, tag="refused"):
    """A stream that ended with an error."""

    stream: int
    kind: str
    """`invalid`: the request can't be served as it is; `impossible`: this engine serves none of that kind; `internal`:
    the engine failed at it; `dead`: the engine is gone."""
    message: str
    reason: str = ""
    """UPPER_SNAKE, where there is one of its own; with the next since protocol 3."""
    metadata: dict[str, str] = {}
    """The numbers of the message."""


class Embedded(msgspec.Struct, array_like=True, frozen=True, tag="embedded"):
    """The vector of an input."""

    stream: int
    values: bytes
    """32-bit floats, little-endian."""
    prompt_tokens: int


class Tokenized(msgspec.Struct, array_like=True, frozen=True, tag="tokenized"):
    """The tokens of a prompt."""

    stream: int
    token_ids: list[int]
    texts: list[str] = []


class Detokenized(msgspec.Struct, array_like=True, frozen=True, tag="detokenized"):
    """The text of tokens."""

    stream: int
    text: str


Answer = Embedded | Tokenized | Detokenized


class Pong(msgspec.Struct, array_like=True, frozen=True, tag="pong"):
    """EngineCore has answered the ping of that number."""

    number: int


class Dead(msgspec.Struct, array_like=True, frozen=True, tag="dead"):
    """The engine has failed for good; the worker ends right after this."""

    message: str


Event = Hello | Step | Refused | Answer | Pong | Dead

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
