"""What a generation has brought so far, as one value. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1 import generation_pb2


@dataclasses.dataclass(slots=True)
class Completion:
    """One of the `n` completions of a prompt."""

    text: str = ""
    token_ids: list[int] = dataclasses.field(default_factory=list)
    finish_reason: str | None = None
    """`stop`, `length` or `abort`; `None` until it has ended."""
    stop_reason: str = ""
    """The stop string, or the stop token's id, that ended it. Empty otherwise."""
    logprobs: list[generation_pb2.TokenLogprobs] = dataclasses.field(default_factory=list)
    """One for each of `token_ids`, if they were asked for."""

    def add(self, part: pb.GenerateResponse | pb.Completion) -> None:
        """Take in what came next."""
        self.text += part.text
        self.token_ids.extend(part.token_ids)
        self.logprobs.extend(part.logprobs)
        if part.finish_reason:
            self.finish_reason = finish_reason_of(part)
            self.stop_reason = part.stop_reason


@dataclasses.dataclass(slots=True)
class Generation:
    """All that was generated from one prompt: `text` and its like are the first completion's."""

    completions: list[Completion] = dataclasses.field(default_factory=lambda: [Completion()])
    """As many as `n` asked for, by index."""
    prompt_logprobs: list[generation_pb2.TokenLogprobs] = dataclasses.field(default_factory=list)
    """One for each token of the prompt, if they were asked for."""
    usage: generation_pb2.Usage | None = None
    """Tokens counted over all completions; `None` until all have ended."""
    time_to_first_token: float | None = None
    """Seconds, as the daemon saw it."""
    total_time: float | None = None
    """Seconds, as the daemon saw it."""

    @classmethod
    def collect(cls, responses: Iterable[pb.GenerateResponse]) -> Generation:
        """Read a whole stream of `generate`."""
        generation = cls()
        for response in responses:
            generation.add(response)
        return generation

    @classmethod
    def of(cls, whole: pb.Generated) -> Generation:
        """Make one of what GenerateBatch sends in one piece."""
        generation = cls()
        for index, completion in enumerate(whole.completions):
            generation._completion(index).add(completion)
        generation.prompt_logprobs.extend(whole.prompt_logprobs)
        generation._finish(whole)
        return generation

    def add(self, response: pb.GenerateResponse) -> None:
        """Take in the next response."""
        self._completion(response.index).add(response)
        self.prompt_logprobs.extend(response.prompt_logprobs)
        self._finish(response)

    @property
    def text(self) -> str:
        """The text so far."""
        return self.completions[0].text

    @property
    def token_ids(self) -> list[int]:
        """The tokens so far."""
        return self.completions[0].token_ids

    @property
    def finish_reason(self) -> str | None:
        """`stop`, `length` or `abort`; `None` until the generation has ended."""
        return self.completions[0].finish_reason

    @property
    def stop_reason(self) -> str:
        """The stop string, or the stop token's id, that ended it. Empty otherwise."""
        return self.completions[0].stop_reason

    @property
    def logprobs(self) -> list[generation_pb2.TokenLogprobs]:
        """One for each of `token_ids`, if they were asked for."""
        return self.completions[0].logprobs

    @property
    def tokens_per_second(self) -> float | None:
        """Speed after the first token, or `None` where there is too little to tell."""
        if self.usage is None or self.total_time is None or self.time_to_first_token is None:
            return None
        seconds = self.total_time - self.time_to_first_token
        tokens = self.usage.completion_tokens - 1
        return tokens / seconds if tokens > 0 and seconds > 0 else None

    def _completion(self, index: int) -> Completion:
        while len(self.completions) <= index:
            self.completions.append(Completion())
        return self.completions[index]

    def _finish(self, part: pb.GenerateResponse | pb.Generated) -> None:
        if part.HasField("usage"):
            self.usage = part.usage
        if part.HasField("timings"):
            self.time_to_first_token = part.timings.time_to_first_token.ToTimedelta().total_seconds()
            self.total_time = part.timings.total.ToTimedelta().total_seconds()


def finish_reason_of(part: pb.GenerateResponse | pb.Completion) -> str | None:
    """Name why a completion ended, as `Generation` does: `stop`, `length` or `abort`; `None` as long as it has not.

    What `generate` streams has the number of it, and a newer daemon may send one that has no name here: that stays one.
    """
    if not part.finish_reason:
        return None
    try:
        return generation_pb2.FinishReason.Name(part.finish_reason).removeprefix("FINISH_REASON_").lower()
    except ValueError:
        return str(int(part.finish_reason))
