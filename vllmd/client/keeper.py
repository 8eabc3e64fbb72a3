"""Keeps a lease in a thread, while its model is in use."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

from vllmd.client.connection import Stream
from vllmd.client.errors import VllmdError
from vllmd.client.keeping import Answer, Pause, Renew, Step, Watch, keeping
from vllmd.v1 import engine_pb2
from vllmd.v1 import engine_service_pb2 as pb


class Keeper:
    """A thread that keeps one lease until it is stopped, and never keeps Python from ending.

    Args:
        lease: as it was given.
        stream: what holds it; `None` if nothing does.
        renew: extends a lease by its name.
    """

    def __init__(
        self,
        lease: engine_pb2.Lease,
        stream: Stream[pb.LoadModelResponse] | None,
        renew: Callable[[str], engine_pb2.Lease],
    ) -> None:
        self.lease = lease
        self.failure: VllmdError | None = None
        """Why the lease is not kept any more; `None` while it is, or once it was ended on purpose."""
        self._stream = stream
        self._renew = renew
        self._stopped = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vllmd-lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what keeps the lease from being kept, if anything does."""
        if self.failure is not None and not self._stopped:
            raise copy.copy(self.failure)

    def changed(self, lease: engine_pb2.Lease) -> None:
        """Go by another length of the lease from now on."""
        self.lease = lease
        self._wake.set()

    def join(self) -> None:
        """Wait until the lease is not kept any more; raises as `check` does."""
        self._thread.join()
        self.check()

    def stop(self) -> None:
        """Leave the lease alone; one that is held ends."""
        self._stopped = True
        self._wake.set()
        if self._stream is not None:
            self._stream.close()

    def _run(self) -> None:
        steps = keeping(self.lease, self._stream is not None)
        answer: Answer = None
        while not self._stopped:
            try:
                answer = self._take(steps.send(answer))
            except StopIteration:
                return
            except VllmdError as failure:
                self.failure = failure.with_traceback(None)
                return

    def _take(self, step: Step) -> Answer:
        try:
            match step:
                case Watch():
                    for _ in self._stream or ():
                        pass
                case Pause(seconds=seconds):
                    self._wake.wait(seconds)
                    self._wake.clear()
                case Renew():
                    self.lease = self._renew(self.lease.name)
                    return self.lease
        except VllmdError as failure:
            return failure
        return None
