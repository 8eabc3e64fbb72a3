"""A loaded model and the lease on it."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

import grpc

from vllmd.client.connection import Stream
from vllmd.client.errors import VllmdError
from vllmd.client.requests import Prompt, SamplingOptions, Seconds
from vllmd.v1 import engine_pb2
from vllmd.v1 import engine_service_pb2 as pb

if TYPE_CHECKING:
    from vllmd.client.client import Client


class LoadedModel:
    """What `Client.load` returns: generate with it, and release it, best by a `with` block."""

    def __init__(self, client: Client, loaded: pb.LoadedModel, stream: Stream[pb.LoadModelResponse]) -> None:
        self.lease: engine_pb2.Lease = loaded.lease
        self.engine: engine_pb2.Engine = loaded.engine
        """The engine as it was when the load ended."""
        self.reused: bool = loaded.reused
        """True if the engine was already loaded."""
        self._client = client
        self._stream = stream
        self._released = False

    def __repr__(self) -> str:
        return f"<LoadedModel {self.engine.model} {self.engine.name}>"

    def generate(
        self, prompt: Prompt, *, template_args: Mapping[str, Any] | None = None, **options: Unpack[SamplingOptions]
    ) -> Stream[pb.GenerateResponse]:
        """Generate with the lease, which extends it; see `Client.generate`."""
        return self._client.generate(self.lease.name, prompt, template_args=template_args, **options)

    def renew(self, ttl: Seconds | None = None) -> engine_pb2.Lease:
        """Extend the lease from now."""
        self.lease = self._client.renew(self.lease.name, ttl)
        return self.lease

    def wait(self) -> None:
        """Block until a held lease ends; raises `VllmdError` if its engine failed or was stopped."""
        for _ in self._stream:
            pass

    def release(self) -> engine_pb2.Engine:
        """End the lease and return what became of the engine."""
        self._released = True
        # The RPC comes before the end of a held stream, since only its answer has the proof of what was given back.
        try:
            return self._client.release(self.lease.name)
        finally:
            self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._released:
            return
        try:
            self.release()
        except VllmdError as failure:
            # A lease that has ended by itself is what was wanted; and the block's own error matters more than ours.
            if error is None and failure.code is not grpc.StatusCode.NOT_FOUND:
                raise
