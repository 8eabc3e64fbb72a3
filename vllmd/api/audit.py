"""What operators do, and who tries to: one line of the log when a call ends, and of a stream one as it begins, too.

It tells what is known: the listener, the name of a token and of a certificate, and no user, as gRPC for Python shows
none. Of the request it tells only the fields that say what it is about, so that no secret of a later one gets into the
log.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import Any

import grpc

from vllmd.api.callers import Caller
from vllmd.errors import VllmdError

Context = grpc.aio.ServicerContext[Any, Any]

_FIELDS = ("name", "model", "pid", "force", "confirmed", "follow")
_LONGEST = 200
"""Characters of a field: a name that a client made up may be as long as a request."""

BEGUN = "begun"
_log = logging.getLogger("vllmd.audit")
_log.setLevel(logging.INFO)  # whatever log_level is: who asks for less did not mean this


class Record:
    """The line of one call, written when it is known how that ended."""

    def __init__(self, method: str, request: Any, who: Caller | str, context: Context) -> None:
        self._about = " ".join([method.rpartition("/")[2], *_about(request)])
        self._who = " ".join([str(who), *_certificates(context)])
        self._begun = time.monotonic()

    def write(self, outcome: str) -> None:
        """Write the line."""
        took = "" if outcome == BEGUN else f" after {time.monotonic() - self._begun:.3f} s"
        _log.info("%s, %s: %s%s", self._about, self._who, outcome, took)

    def denied(self, error: VllmdError) -> None:
        """Write that the call was not let in."""
        _log.warning("%s, %s: %s", self._about, self._who, error.reason)


def outcome(context: Context, error: BaseException | None) -> str:
    """Say how a call ended: with a code of gRPC's."""
    if error is None:
        return "OK"
    code: object = context.code()  # a number, whatever the stubs say
    known = _CODES.get(code.value[0] if isinstance(code, grpc.StatusCode) else code)
    if known in (None, "OK"):  # nobody set one: the client has gone, or it is a bug
        return "UNKNOWN" if isinstance(error, Exception) else "CANCELLED"
    return str(known)


_CODES: Mapping[object, str] = {code.value[0]: code.name for code in grpc.StatusCode}


def _about(request: Any) -> list[str]:
    """List what a request is about: the fields that are set, of those that can't be secrets."""
    fields = request.DESCRIPTOR.fields_by_name if hasattr(request, "DESCRIPTOR") else {}
    return [f"{name}={_text(value)}" for name in _FIELDS if name in fields and (value := getattr(request, name))]


def _certificates(context: Context) -> list[str]:
    """Say whose certificate was shown, where they are asked for: gRPC has checked by whom it was issued."""
    names = context.auth_context().get("x509_common_name") or ()
    return [f"with the certificate of {_text(name.decode(errors='replace'))}" for name in names]


def _text(value: Any) -> str:
    return json.dumps(value)[:_LONGEST]  # one line, whatever a client wrote
