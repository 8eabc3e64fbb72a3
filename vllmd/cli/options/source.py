"""What a request goes to: an engine or a lease, as it was typed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from vllmd.cli import human
from vllmd.cli.completion import living_engines
from vllmd.cli.options import lease as secret
from vllmd.cli.session import QUICK_SECONDS

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from vllmd.client import Client, Stream, VllmdError

    _Response = TypeVar("_Response", bound=Message)

_Answer = TypeVar("_Answer")

HINT = secret.HINT

_LIVING = ("PENDING", "STARTING", "READY", "BACKOFF")

Source = Annotated[
    str,
    typer.Argument(
        metavar=HINT,
        envvar=secret.VARIABLE,
        help="An engine's name, as `status` shows it, or a lease, as `load` printed it; `-` reads that from the "
        f"first line of stdin. {secret.EXPOSED}",
        autocompletion=living_engines,
    ),
]


def asking(client: Client, source: str, ask: Callable[[str], _Answer]) -> _Answer:
    """Ask an engine or a lease; a bare name is an engine's, or else a lease's."""
    from vllmd.client import VllmdError, lease_name

    try:
        return ask(source)
    except VllmdError as error:
        if not _may_be_a_lease(source, error):
            raise _with_hint(client, source, error) from None
        try:
            return ask(lease_name(source))
        except VllmdError as second:
            raise _with_hint(client, source, _more_likely(error, second)) from None


def streaming(client: Client, source: str, start: Callable[[str], Stream[_Response]]) -> Iterator[_Response]:
    """Stream from an engine or a lease; a bare name is an engine's, or else a lease's."""
    from vllmd.client import VllmdError, lease_name

    try:
        with start(source) as responses:
            yield from responses
    except VllmdError as error:
        if not _may_be_a_lease(source, error):
            raise _with_hint(client, source, error) from None
        try:
            with start(lease_name(source)) as responses:
                yield from responses
        except VllmdError as second:
            raise _with_hint(client, source, _more_likely(error, second)) from None


def _may_be_a_lease(source: str, error: VllmdError) -> bool:
    return error.reason == "ENGINE_NOT_FOUND" and "/" not in source


def _more_likely(first: VllmdError, second: VllmdError) -> VllmdError:
    """People mostly mean engines, so that is the name to say is unknown."""
    return first if second.reason == "LEASE_NOT_FOUND" else second


def _with_hint(client: Client, source: str, error: VllmdError) -> VllmdError:
    """Add which engine has the model, where a model was named in place of one."""
    from vllmd.client import VllmdError

    if error.reason != "ENGINE_NOT_FOUND" or source.startswith(("engines/", "leases/")):
        return error
    try:
        engines = client.engines(timeout=QUICK_SECONDS)
    except VllmdError:  # it is the first failure that is to be told
        return error
    names = [human.short(one.name) for one in engines if one.model == source and human.state(one.state) in _LIVING]
    if names:
        error.add_note(f"{source} is loaded as {', '.join(names)}: give that name.")
    return error
