"""What stands at a listener: it lets in whom the rules let in, and has an operator's calls written down."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from vllmd.api import access, audit, callers, tokens
from vllmd.api.access import Role
from vllmd.api.callers import Caller
from vllmd.api.status import abort
from vllmd.api.tokens import Tokens
from vllmd.errors import InvalidRequest, Unauthenticated, VllmdError

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # no generic at run time
Details = grpc.HandlerCallDetails
Continuation: TypeAlias = "Callable[[Details], Awaitable[Handler | None]]"


class Guard(grpc.aio.ServerInterceptor):
    """The interceptor of one listener.

    Args:
        caller: what whoever comes by it is, unless tokens say more.
        remedy: what somebody does who is denied there, as a sentence.
        tokens: one of which each call must bring; `None` if none is asked for.
    """

    def __init__(self, caller: Caller, remedy: str, tokens: Tokens | None = None) -> None:
        self._caller = caller
        self._remedy = remedy
        self._tokens = tokens

    async def intercept_service(self, continuation: Continuation, details: Details) -> Handler | None:
        """Find what serves a call, if it may be made."""
        handler = await continuation(details)
        if handler is None:  # there is no such method, as gRPC will say
            return handler
        method = details.method
        who: Caller | str = self._caller.way
        try:
            who = caller = self._identify(details)
            access.check(method, caller.role, caller.way, self._remedy)
        except VllmdError as error:
            return _replaced(handler, _refusing(method, who, error))
        behaviour = _behaviour(handler)
        if access.needed(method) is Role.OPERATOR:
            behaviour = _audited(method, caller, behaviour)
        return _replaced(handler, _known(caller, behaviour))

    def _identify(self, details: Details) -> Caller:
        if self._tokens is None:
            return self._caller
        presented = tokens.presented(details.invocation_metadata or ())
        if presented is None:
            message = "A token is needed here: as metadata, `authorization: Bearer TOKEN`; vllmd-cli takes VLLMD_TOKEN."
            raise Unauthenticated("TOKEN_MISSING", message, way=self._caller.way)
        token = self._tokens.find(presented)
        if token is None:
            message = (
                "There is no such token: it was withdrawn, or is cut short. An operator makes one: vllmd token new."
            )
            raise Unauthenticated("TOKEN_UNKNOWN", message, way=self._caller.way)
        return dataclasses.replace(self._caller, role=token.role, token=token, tokens=self._tokens)


def _refusing(method: str, who: Caller | str, error: VllmdError) -> Callable[[Any, Context], Awaitable[None]]:
    async def refuse(request: Any, context: Context) -> None:
        await _refuse_malformed(request, context)
        if access.needed(method) is Role.OPERATOR or error.reason == "TOKEN_UNKNOWN":  # somebody may be trying
            audit.Record(method, request, who, context).denied(error)
        await abort(context, error)

    return refuse


def _known(caller: Caller, behaviour: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method know who calls it, and keep from it what is no request."""

    async def call(request: Any, context: Context) -> Any:
        await _refuse_malformed(request, context)
        callers.current.set(caller)
        return await behaviour(request, context)

    async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
        await _refuse_malformed(request, context)
        callers.current.set(caller)
        async with contextlib.aclosing(behaviour(request, context)) as responses:
            async for response in responses:
                yield response

    return stream if inspect.isasyncgenfunction(behaviour) else call


def _audited(method: str, caller: Caller, behaviour: Callable[..., Any]) -> Callable[..., Any]:
    async def call(request: Any, context: Context) -> Any:
        record = audit.Record(method, request, caller, context)
        try:
            response = await behaviour(request, context)
        except BaseException as error:
            record.write(audit.outcome(context, error))
            raise
        record.write(audit.outcome(context, None))
        return response

    async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
        record = audit.Record(method, request, caller, context)
        record.write(audit.BEGUN)
        try:
            async with contextlib.aclosing(behaviour(request, context)) as responses:
                async for response in responses:
                    yield response
        except BaseException as error:
            record.write(audit.outcome(context, error))
            raise
        record.write(audit.outcome(context, None))

    return stream if inspect.isasyncgenfunction(behaviour) else call


def _behaviour(handler: Handler) -> Callable[..., Any]:
    """Take the method out of what gRPC keeps it in."""
    found = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    assert found is not None
    return found


def _replaced(handler: Handler, behaviour: Callable[..., Any]) -> Handler:
    """Put another method in the place of one, for messages of the same types."""
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    read = _reading(handler.request_deserializer) if handler.request_deserializer is not None else None
    return make(behaviour, read, handler.response_serializer)


@dataclasses.dataclass(frozen=True)
class _Malformed:
    """In the place of a request whose bytes are no message."""

    why: str


def _reading(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Read requests, and never raise: gRPC would make an unknown error of it, as if the daemon had failed."""

    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError as error:
            return _Malformed(str(error))

    return read


async def _refuse_malformed(request: Any, context: Context) -> None:
    """End the call if its request is none."""
    if isinstance(request, _Malformed):
        message = f"The request's bytes are no message of its kind: {request.why}. Is it another service's?"
        await abort(context, InvalidRequest("MALFORMED_REQUEST", message))
