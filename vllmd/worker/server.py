"""The worker's end of the link: one daemon at a time, all of its streams, one frame for each engine step."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import pathlib
import time
import traceback
from collections.abc import Iterator

import msgspec

from . import protocol
from .backend import Backend, EngineDead, InvalidRequest, Output
from .causes import named, text_of
from .report import EngineInfo

_LIVENESS_SECONDS = 0.2
_WRITE_BUFFER_BYTES = 1 << 20


class Link(asyncio.Protocol):
    """One connection of a daemon; its streams end with it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._splitter = protocol.FrameSplitter()
        self._streams: dict[int, asyncio.Task[None]] = {}
        self._outbox: dict[tuple[int, int], protocol.Delta] = {}
        """By stream and completion."""
        self._flush_due = False
        self._ping: asyncio.Task[None] | None = None
        self._writable = True
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello; a newer daemon replaces an older one, which must be dead to have lost the lock."""
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        self._transport = transport
        self._server.attach(self)
        self._send(self._server.hello)

    def data_received(self, data: bytes) -> None:
        """Run the commands in *data*; a peer that makes no sense is hung up on."""
        try:
            for body in self._splitter.feed(data):
                self._run(protocol.command_decoder.decode(body))
        except (protocol.ProtocolError, msgspec.DecodeError) as error:
            print(f"vllmd: link closed: {error}", flush=True)
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Abort every stream: nobody would read its tokens."""
        del exc
        for task in self._streams.values():
            task.cancel()
        if self._ping is not None:
            self._ping.cancel()
        self._transport = None
        self._server.detach(self)

    def pause_writing(self) -> None:
        """Let deltas merge in the outbox while the daemon is behind."""
        self._writable = False

    def resume_writing(self) -> None:
        """Send what has gathered."""
        self._writable = True
        self._flush()

    def close(self) -> None:
        """Send what is buffered, then hang up."""
        if self._transport is not None:
            self._transport.close()

    def say_dead(self, message: str) -> None:
        """Tell the daemon that the engine has failed for good."""
        self._send_step()
        self._send(protocol.Dead(message))

    def _run(self, command: protocol.Command) -> None:
        if isinstance(command, protocol.Generate | protocol.Question):
            loop = asyncio.get_running_loop()
            work = self._generate(command) if isinstance(command, protocol.Generate) else self._answer(command)
            started = loop.create_task(work, name=f"stream {command.stream}")
            self._streams[command.stream] = started
            # Not at the end of the work: a task that is aborted before its first step never gets there.
            started.add_done_callback(functools.partial(self._forget, command.stream))
        elif isinstance(command, protocol.Ping):
            # One at a time: the daemon waits for the answer, and one that never comes must not pile up.
            if self._ping is None or self._ping.done():
                self._ping = asyncio.get_running_loop().create_task(self._echo(command.number), name="ping")
        elif isinstance(command, protocol.Abort):
            for stream in command.streams:
                task = self._streams.get(stream)
                if task is not None:
                    task.cancel()

    async def _echo(self, number: int) -> None:
        try:
            await self._server.backend.ping()
        except Exception:  # noqa: BLE001 - an engine that can't answer does not; the log has why
            traceback.print_exc()
        else:
            self._send(protocol.Pong(number))

    def _forget(self, stream: int, task: asyncio.Task[None]) -> None:
        del task
        del self._streams[stream]

    async def _generate(self, request: protocol.Generate) -> None:
        with self._refusing(request.stream):
            async with contextlib.aclosing(self._server.backend.generate(request)) as outputs:  # type: ignore[type-var]
                async for output in outputs:
                    self._put(request.stream, output)

    async def _answer(self, question: protocol.Question) -> None:
        with self._refusing(question.stream):
            answer = await self._server.backend.answer(question)
            size = len(protocol.frame(answer))
            if size > protocol.MAX_FRAME_BYTES:  # the daemon would take it for the end of a sane worker
                message = f"the answer takes {size} bytes; at most {protocol.MAX_FRAME_BYTES} are possible"
                raise InvalidRequest(message, "ANSWER_TOO_LARGE", bytes=size, limit_bytes=protocol.MAX_FRAME_BYTES)
            self._send(answer)

    @contextlib.contextmanager
    def _refusing(self, stream: int) -> Iterator[None]:
        """Tell the daemon of what ends a stream early."""
        try:
            yield
        except InvalidRequest as error:
            self._refuse(protocol.Refused(stream, error.kind, text_of(error), error.reason, error.metadata))
        except EngineDead as error:
            self._refuse(protocol.Refused(stream, "dead", text_of(error)))
        except Exception as error:  # noqa: BLE001 - one stream's bug must not end the others; the log has it
            traceback.print_exc()
            self._refuse(protocol.Refused(stream, "internal", named(error)))

    def _refuse(self, refusal: protocol.Refused) -> None:
        self._send_step()  # even while writing is paused: the error comes after what was generated before
        self._send(refusal)

    def _put(self, stream: int, output: Output) -> None:
        """Add to the step's frame, which leaves once all tasks that this step woke have run."""
        key = (stream, output.index)
        delta = self._outbox.get(key)
        if delta is None:
            self._outbox[key] = protocol.Delta(
                stream,
                output.text,
                output.token_ids,
                output.finish_reason,
                output.stop_reason,
                output.prompt_tokens,
                output.cached_tokens,
                output.index,
                output.logprobs,
                output.prompt_logprobs,
                output.last,
            )
        else:
            delta.text += output.text
            delta.token_ids = delta.token_ids + output.token_ids
            if output.logprobs is not None:
                delta.logprobs = (delta.logprobs or []) + output.logprobs
            delta.finish_reason = output.finish_reason
            delta.stop_reason = output.stop_reason
            delta.last = output.last
        if not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._writable:
            self._send_step()

    def _send_step(self) -> None:
        if self._outbox:
            deltas = list(self._outbox.values())
            self._outbox = {}
            self._send_deltas(deltas)

    def _send_deltas(self, deltas: list[protocol.Delta]) -> None:
        """Send them in one frame, or in as many as it takes: log probabilities of a long prompt are some ten MiB."""
        frame = protocol.frame(protocol.Step(time.monotonic_ns(), deltas))
        if len(frame) <= protocol.MAX_STEP_BYTES:
            self._write(frame)
        elif len(deltas) > 1:
            half = len(deltas) // 2
            self._send_deltas(deltas[:half])
            self._send_deltas(deltas[half:])
        else:
            (delta,) = deltas
            if (task := self._streams.get(delta.stream)) is not None:
                task.cancel()
            self._send(_too_large(delta.stream, len(frame)))

    def _send(self, message: protocol.Event) -> None:
        self._write(protocol.frame(message))

    def _write(self, frame: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frame)


def _too_large(stream: int, size: int) -> protocol.Refused:
    most = protocol.MAX_STEP_BYTES
    message = f"the log probabilities take {size} bytes, and at most {most} are possible: ask for fewer"
    return protocol.Refused(
        stream, "invalid", message, "ANSWER_TOO_LARGE", {"bytes": str(size), "limit_bytes": str(most)}
    )


class Server:
    """Serves a loaded engine on the link's socket until it is told to stop or the engine dies."""

    def __init__(self, backend: Backend, info: EngineInfo, vllmd_version: str) -> None:
        self.backend = backend
        self.hello = protocol.Hello(protocol.PROTOCOL, vllmd_version, os.getpid(), info, backend.capabilities())
        self._link: Link | None = None
        self._listener: asyncio.Server | None = None
        self._stop = asyncio.Event()

    def attach(self, link: Link) -> None:
        """Make *link* the one connection."""
        if self._link is not None:
            self._link.close()
        self._link = link

    def detach(self, link: Link) -> None:
        """Forget *link* if it is still the one."""
        if self._link is link:
            self._link = None

    def stop(self) -> None:
        """End `serve` from a signal handler."""
        self._stop.set()

    async def listen(self, path: pathlib.Path) -> None:
        """Accept daemons on *path* from now on."""
        self._listener = await asyncio.get_running_loop().create_unix_server(lambda: Link(self), path)
        path.chmod(0o600)

    async def serve(self) -> str | None:
        """Serve until `stop`; returns why the engine died, if it did."""
        death = await self._until_end()
        if self._listener is not None:
            self._listener.close()
        if self._link is not None:
            self._link.close()
        return death

    async def _until_end(self) -> str | None:
        while not self._stop.is_set():
            death = self.backend.death()
            if death is not None:
                if self._link is not None:
                    self._link.say_dead(death)
                return death
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _LIVENESS_SECONDS)
        return None
