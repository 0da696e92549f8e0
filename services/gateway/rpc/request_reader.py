"""Reads the message of a call before its servicer is asked: in time, counted, and not for long."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from services.common.errors import DeadlineExceeded, InvalidRequest, Overloaded, PerigeeError
from services.common.rpc.interceptors import Interceptor, written
from services.gateway.byte_budget import ByteBudget, Hold
from services.gateway.rpc.calls import Calls, Context
from services.gateway.rpc.wire_counts import UNCOUNTED_BYTES, WireCounts
from services.gateway.waiting import Waiting

if TYPE_CHECKING:
    from services.common.rpc.interceptors import Handler


class RequestReader(Interceptor):
    """For methods that take one message. gRPC is told that they take a stream: else it would build the
    message on the event loop, however much is in it, and wait for it forever.
    """

    def __init__(
        self, calls: Calls, counts: WireCounts, budget: ByteBudget, waiting: Waiting, timeout_s: float
    ) -> None:
        self._calls = calls
        self._counts = counts
        self._budget = budget
        self._waiting = waiting
        self._timeout_s = timeout_s
        # Several threads at once would count no faster, and take turns with the event loop's.
        self._counting = asyncio.Lock()

    def around(self, handler: Handler, details: grpc.HandlerCallDetails) -> Handler:
        """See Interceptor."""
        if handler.request_streaming:
            return handler
        behaviour: Any = handler.unary_stream if handler.response_streaming else handler.unary_unary
        if inspect.isasyncgenfunction(behaviour):
            behaviour = written(behaviour, before_first=self._calls.answering)
        elif inspect.iscoroutinefunction(behaviour):
            behaviour = self._named(behaviour)
        else:
            return handler
        wrap: Any = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        taking: Handler = wrap(
            self._reading(behaviour, handler.request_deserializer, details.method),
            response_serializer=handler.response_serializer,
        )
        return taking

    def _named(
        self, behaviour: Callable[[Any, Context], Awaitable[Any]]
    ) -> Callable[[Any, Context], Awaitable[Any]]:
        async def answer(request: Any, context: Context) -> Any:
            response = await behaviour(request, context)
            await self._calls.answering(context)
            return response

        return answer

    def _reading(
        self, behaviour: Callable[[Any, Context], Awaitable[Any]], deserialize: Any, method: str
    ) -> Callable[[object, Context], Awaitable[Any]]:
        async def answer(_: object, context: Context) -> Any:
            tenant = self._calls.tenant(context, method)
            with self._budget.hold(tenant) as hold:
                async with self._calls.reading(context, _short(method)):
                    request = await self._request(context, deserialize, hold)
                try:
                    return await behaviour(request, context)
                except InvalidRequest as error:
                    raise _alone(error) from None
                finally:
                    del request  # the error knows this frame

        return answer

    async def _request(self, context: Context, deserialize: Any, hold: Hold) -> Any:
        data = await self._first(context)
        try:
            hold.grow(len(data))
            hold.keep()
            if len(data) < UNCOUNTED_BYTES:
                return self._decode(data, deserialize)
            async with self._counting:
                return await asyncio.to_thread(self._decode, data, deserialize)
        except PerigeeError as error:
            raise _alone(error) from None
        finally:
            del data

    async def _first(self, context: Context) -> bytes:
        """Raises DeadlineExceeded, Overloaded where too many wait, InvalidRequest if none comes."""
        call, crowded = object(), False

        def send_away() -> None:
            nonlocal crowded
            crowded = True
            limit.reschedule(0)

        try:
            async with asyncio.timeout(self._timeout_s) as limit:
                self._waiting.enter(call, send_away)
                data: Any = await context.read()
        except TimeoutError:
            if crowded:
                raise Overloaded("too many calls wait for their message; retry later", 1.0) from None
            raise DeadlineExceeded(f"the message did not arrive within {self._timeout_s:g} s") from None
        finally:
            self._waiting.leave(call)
        if data is grpc.aio.EOF:  # type: ignore[attr-defined]  # the stubs lack it
            raise InvalidRequest("the call has no message")
        message: bytes = data
        return message

    def _decode(self, data: bytes, deserialize: Any) -> Any:
        try:
            self._counts.check(data, deserialize.__self__.DESCRIPTOR)
            return deserialize(data)
        except DecodeError as error:
            raise InvalidRequest(f"the message cannot be decoded: {error}") from error


def _alone(error: PerigeeError) -> PerigeeError:
    """The error without the frames, its own and those of what led to it, that know the message: gRPC keeps it
    for a while.
    """
    error.__context__ = None
    return error.with_traceback(None)


def _short(method: str) -> str:
    """`ChatService/Complete` for `/perigee.v1.ChatService/Complete`."""
    return method.removeprefix("/perigee.v1.")
