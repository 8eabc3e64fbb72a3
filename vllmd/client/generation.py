"""What a generation has brought so far, as one value."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1 import generation_pb2


@dataclasses.dataclass(slots=True)
class Generation:
    """Collects the responses of one Generate call."""

    text: str = ""
    token_ids: list[int] = dataclasses.field(default_factory=list)
    finish_reason: str | None = None
    """`stop`, `length` or `abort`; `None` until the generation has ended."""
    stop_reason: str = ""
    usage: generation_pb2.Usage | None = None
    time_to_first_token: float | None = None
    """Seconds, as the daemon saw it."""
    total_time: float | None = None
    """Seconds, as the daemon saw it."""

    @classmethod
    def collect(cls, responses: Iterable[pb.GenerateResponse]) -> Generation:
        """Read a whole stream."""
        generation = cls()
        for response in responses:
            generation.add(response)
        return generation

    def add(self, response: pb.GenerateResponse) -> None:
        """Take in the next response."""
        self.text += response.text
        self.token_ids.extend(response.token_ids)
        if response.finish_reason:
            self._finish(response)

    @property
    def tokens_per_second(self) -> float | None:
        """Speed after the first token, or `None` where there is too little to tell."""
        if self.usage is None or self.total_time is None or self.time_to_first_token is None:
            return None
        seconds = self.total_time - self.time_to_first_token
        tokens = self.usage.completion_tokens - 1
        return tokens / seconds if tokens > 0 and seconds > 0 else None

    def _finish(self, response: pb.GenerateResponse) -> None:
        self.finish_reason = finish_reason_text(response.finish_reason)
        self.stop_reason = response.stop_reason
        self.usage = response.usage
        if response.HasField("timings"):
            self.time_to_first_token = response.timings.time_to_first_token.ToTimedelta().total_seconds()
            self.total_time = response.timings.total.ToTimedelta().total_seconds()


def finish_reason_text(value: generation_pb2.FinishReason.ValueType) -> str:
    """Name a finish reason; a newer daemon may send one that has no name here."""
    try:
        return generation_pb2.FinishReason.Name(value).removeprefix("FINISH_REASON_").lower()
    except ValueError:
        return str(int(value))
