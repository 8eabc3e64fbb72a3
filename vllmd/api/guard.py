"""What stands at a listener: it lets in whom the rules let in, and has an operator's calls written down."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc

from vllmd.api import access, audit
from vllmd.api.access import Role
from vllmd.api.callers import Caller
from vllmd.api.status import abort
from vllmd.errors import VllmdError

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # no generic at run time
Details = grpc.HandlerCallDetails
Continuation: TypeAlias = "Callable[[Details], Awaitable[Handler | None]]"


class Guard(grpc.aio.ServerInterceptor):
    """The interceptor of one listener.

    Args:
        way: the listener, as callers are told.
        remedy: what somebody does who is denied there, as a sentence.
        identify: tells who makes a call; raises `VllmdError` if that is nobody who may come by here.
    """

    def __init__(self, way: str, remedy: str, identify: Callable[[Details], Caller]) -> None:
        self._way = way
        self._remedy = remedy
        self._identify = identify

    async def intercept_service(self, continuation: Continuation, details: Details) -> Handler | None:
        """Find what serves a call, if it may be made."""
        handler = await continuation(details)
        if handler is None:  # there is no such method, as gRPC will say
            return handler
        who: Caller | str = self._way
        try:
            who = caller = self._identify(details)
            access.check(details.method, caller.role, self._way, self._remedy)
        except VllmdError as error:
            return _replaced(handler, _refusing(details.method, who, error))
        if access.needed(details.method) is Role.OPERATOR:
            return _replaced(handler, _audited(details.method, caller, _behaviour(handler)))
        return handler


def _refusing(method: str, who: Caller | str, error: VllmdError) -> Callable[[Any, Context], Awaitable[None]]:
    async def refuse(request: Any, context: Context) -> None:
        if access.needed(method) is Role.OPERATOR:
            audit.Record(method, request, who).denied(error)
        await abort(context, error)

    return refuse


def _audited(method: str, caller: Caller, behaviour: Callable[..., Any]) -> Callable[..., Any]:
    async def call(request: Any, context: Context) -> Any:
        record = audit.Record(method, request, caller)
        try:
            response = await behaviour(request, context)
        except BaseException as error:
            record.write(audit.outcome(context, error))
            raise
        record.write(audit.outcome(context, None))
        return response

    async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
        record = audit.Record(method, request, caller)
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
    return make(behaviour, handler.request_deserializer, handler.response_serializer)
