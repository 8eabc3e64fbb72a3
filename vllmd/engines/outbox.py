"""What is to be sent to a worker: bounded, as a worker that hangs takes nothing, and taken back while it can be."""

from __future__ import annotations

import asyncio
import collections
import socket
from collections.abc import Callable

from vllmd.worker.causes import text_of

MAX_UNSENT_BYTES = 64 << 20
"""What may wait for a worker that does not read; its socket's buffer holds some hundred kB more."""


class Outbox:
    """Frames on their way out, whole and in order.

    Args:
        connection: a non-blocking stream socket.
        failed: called, not from within `put`, when it can't be written to any more.
    """

    def __init__(self, connection: socket.socket, failed: Callable[[str], None]) -> None:
        self._socket = connection
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._waiting: collections.deque[tuple[int, memoryview]] = collections.deque()
        self._begun = False
        """True once a part of the first one has left."""
        self._size = 0

    def has_room(self, size: int) -> bool:
        """Tell whether so many bytes more may wait; one frame may always."""
        return self._size == 0 or self._size + size <= MAX_UNSENT_BYTES

    def put(self, stream: int, frame: bytes) -> None:
        """Send *frame*, which is about *stream*, once all before it have left."""
        self._waiting.append((stream, memoryview(frame)))
        self._size += len(frame)
        if len(self._waiting) == 1:
            self._send()

    def withdraw(self, stream: int) -> bool:
        """Take back the frame of *stream*; tell whether that could be done, as no byte of it had left."""
        for index, (owner, frame) in enumerate(self._waiting):
            if owner == stream and not (index == 0 and self._begun):
                del self._waiting[index]
                self._size -= len(frame)
                return True
        return False

    def close(self) -> None:
        """Forget what has not left."""
        self._loop.remove_writer(self._socket)
        self._waiting.clear()
        self._size = 0

    def _send(self) -> None:
        try:
            while self._waiting:
                stream, frame = self._waiting[0]
                sent = self._socket.send(frame)
                self._size -= sent
                self._begun = sent < len(frame)
                if self._begun:
                    self._waiting[0] = stream, frame[sent:]
                else:
                    self._waiting.popleft()
            self._loop.remove_writer(self._socket)
        except BlockingIOError:
            self._loop.add_writer(self._socket, self._send)
        except OSError as error:
            self.close()
            # Not from here: the caller is in the middle of something.
            self._loop.call_soon(self._failed, text_of(error))
