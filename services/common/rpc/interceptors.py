"""Converts exceptions of servicers to gRPC statuses."""

from __future__ import annotations

import contextlib
import inspect
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError

from services.common import ids
from services.common.errors import InternalError, InvalidRequest, PerigeeError
from services.common.logs import raised_at
from services.common.rpc.status import from_rpc_error, to_status

log = structlog.get_logger()

# Generic only in the stubs, not at run time.
if TYPE_CHECKING:
    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
    Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]
    _ServerInterceptor: TypeAlias = grpc.aio.ServerInterceptor[Any, Any]
else:
    _ServerInterceptor = grpc.aio.ServerInterceptor


class Interceptor(_ServerInterceptor):
    """Base of the servers' interceptors. gRPC itself refuses methods that the server does not have."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """gRPC's, for each call."""
        handler = await continuation(handler_call_details)
        # The stubs do not know that an unknown method has none.
        return handler if handler is None else self.around(handler, handler_call_details)

    @abstractmethod
    def around(self, handler: Handler, details: grpc.HandlerCallDetails) -> Handler:
        """Returns the handler that the call gets in place of its own."""


class ErrorInterceptor(Interceptor):
    """Maps exceptions of async servicers, in unary and streaming methods, to statuses.

    PerigeeErrors and failed calls to other servers follow the table in `status.py`. Other exceptions are
    logged by type and place, without their texts, and answered as INTERNAL with only a request id. A message
    that cannot be decoded is INVALID_ARGUMENT. Synchronous handlers are not wrapped.
    """

    def around(self, handler: Handler, details: grpc.HandlerCallDetails) -> Handler:
        """See Interceptor."""
        behaviour = behaviour_of(handler)
        if behaviour is None:
            return handler
        return with_behaviour(handler, _guard(behaviour, details.method), _deserializer(handler))


def behaviour_of(handler: Handler) -> Callable[[Any, Context], Awaitable[Any]] | None:
    """Returns what answers a call, as a coroutine function; None if it is synchronous."""
    behaviour = getattr(handler, _shape(handler))
    if inspect.isasyncgenfunction(behaviour):
        return written(behaviour)
    return behaviour if inspect.iscoroutinefunction(behaviour) else None


def with_behaviour(
    handler: Handler,
    behaviour: Callable[[Any, Context], Awaitable[Any]],
    deserializer: Callable[[bytes], Any] | None = None,
) -> Handler:
    """Returns a handler of the same kind of method. `deserializer`: None: the handler's own."""
    made: Handler = getattr(grpc, f"{_shape(handler)}_rpc_method_handler")(
        behaviour,
        request_deserializer=deserializer or handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
    return made


def _shape(handler: Handler) -> str:
    """Returns such as `unary_stream`, the name of the handler's attribute with its behaviour."""
    word = {False: "unary", True: "stream"}
    return f"{word[handler.request_streaming]}_{word[handler.response_streaming]}"


def _deserializer(handler: Handler) -> Callable[[bytes], Any] | None:
    """Returns the handler's deserializer with InvalidRequest as its error.

    It raises the error for a stream of requests, and returns it for a single request, because gRPC answers
    UNKNOWN if that deserializer raises.
    """
    deserialize, streaming = handler.request_deserializer, handler.request_streaming
    if deserialize is None:
        return None

    def decode(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError as error:
            wrong = InvalidRequest(f"the message cannot be decoded: {error}")
            if streaming:
                raise wrong from None
            return wrong

    return decode


def written(
    behaviour: Callable[[Any, Context], AsyncIterator[Any]],
    before_first: Callable[[Context], Awaitable[None]] | None = None,
) -> Callable[[Any, Context], Awaitable[None]]:
    """Converts a generator of responses to a coroutine: it writes them, and `before_first` runs before that.

    The generator may yield None first: `before_first` then runs at once, although there is no response yet.

    gRPC drops a cancelled call's generator without closing it. The coroutine closes it, so that its `finally`
    runs when the call ends, not when it is collected, and frees the resources of a client that disconnected.
    """

    async def write_all(request: Any, context: Context) -> None:
        before = before_first
        async with contextlib.aclosing(behaviour(request, context)) as responses:  # type: ignore[type-var]
            async for response in responses:
                if before is not None:
                    await before(context)
                    before = None
                if response is not None:
                    await context.write(response)

    return write_all


def _guard(
    behaviour: Callable[[Any, Context], Awaitable[Any]], method: str
) -> Callable[[Any, Context], Awaitable[Any]]:
    async def guarded(request: Any, context: Context) -> Any:
        request_id = ""
        try:
            if isinstance(request, PerigeeError):
                raise request
            return await behaviour(request, context)
        except PerigeeError as error:
            failure = error
        except grpc.aio.AbortError:
            raise
        except grpc.aio.AioRpcError as error:
            failure = from_rpc_error(error)
        # The server's edge: for any other exception the caller gets a status and the log gets the cause.
        except Exception as error:  # noqa: BLE001 - barrier
            request_id = ids.request_id()
            log.error("unexpected error", method=method, request_id=request_id, exception=raised_at(error))
            failure = InternalError(f"internal error, request id {request_id}")
        return await _abort(context, _alone(failure), request_id)

    return guarded


def _alone(error: PerigeeError) -> PerigeeError:
    """The error without the frames that it went through. gRPC keeps how a call was aborted in a cycle, and
    all that the frames know with it, until garbage is collected.
    """
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


async def _abort(context: Context, error: PerigeeError, request_id: str = "") -> NoReturn:
    status = to_status(error, request_id)
    trailing = (*(context.trailing_metadata() or ()), *status.trailing_metadata)
    await context.abort(status.code, status.details, trailing)
    raise AssertionError("abort raises")
