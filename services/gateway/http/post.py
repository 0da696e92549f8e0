"""The steps common to every POST route."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import structlog
from starlette.types import Receive, Scope, Send

from services.common.errors import Cancelled, InternalError, PerigeeError
from services.common.logs import raised_at
from services.gateway.admission import Admission, Ticket
from services.gateway.http.answers.keep_alive import KeepAlive
from services.gateway.http.answers.reply import Reply
from services.gateway.http.answers.reply_form import OPENAI, ReplyForm
from services.gateway.http.body import BodyReader
from services.gateway.http.connection.disconnect import run_while_connected
from services.gateway.http.connection.streaming_protocol import BODY_CHUNKS
from services.gateway.http.guards.key_check import tenant_of
from services.gateway.http.request_names import name_of
from services.gateway.request_log import RequestLog
from services.gateway.request_record import RequestRecord

log = structlog.get_logger()

BodyHandler: TypeAlias = Callable[[bytes, Ticket, Reply], Coroutine[Any, Any, None]]
"""Answers a body. Its exceptions become error objects."""


class PostEndpoint:
    """Reads a request's body, admits it, answers it while its client is there, and logs how it ended.

    In this order, so that a client that never sends its whole body takes no slot from others. An ASGI
    application, because it must notice a disconnect in every phase, the queue included.
    """

    def __init__(
        self,
        answer: BodyHandler,
        admission: Admission,
        bodies: BodyReader,
        keep_alive: KeepAlive,
        requests: RequestLog,
        form: ReplyForm = OPENAI,
        *,
        takes_slot: bool = True,
    ) -> None:
        """`form`: the route's protocol. `takes_slot`: whether its requests count against the limits on
        those in flight.
        """
        self._form = form
        self._enter = admission.enter if takes_slot else admission.aside
        self._answer = answer
        self._admission = admission
        self._bodies = bodies
        self._keep_alive = keep_alive
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        chunks = (scope.get("extensions") or {}).get(BODY_CHUNKS)
        reply = Reply(send, self._keep_alive, chunks, self._form, name_of(scope), scope["headers"])
        tenant = tenant_of(scope)
        record = RequestRecord(name_of(scope), "rest", scope["path"], key=tenant.label if tenant else "")
        self._requests.trace(record, scope["headers"])
        try:
            with self._bodies.hold(tenant) as hold:
                with self._admission.failing("rest"):
                    body = await self._bodies.read(scope, receive, hold)
                with self._enter("rest", record, tenant) as ticket:
                    answer = self._answer(body, ticket, reply)
                    await run_while_connected(receive, answer, lambda: reply.ended)
        except PerigeeError as error:
            record.reason = error.reason
            await reply.fail(error)
        # Barrier: a defect in one request is answered and logged, and goes no further.
        except Exception as error:  # noqa: BLE001 - as above
            record.reason = InternalError.reason
            log.error(
                "request failed", request_id=record.name, path=scope["path"], exception=raised_at(error)
            )  # fmt: skip
            await reply.fail(InternalError(f"internal error, request id {record.name}"))
        except BaseException:
            record.reason = Cancelled.reason
            raise
        finally:
            reply.close()
            record.status = reply.status
            record.ended()
            # The line is made in the loop's next turn: the last tokens of other answers are written first.
            asyncio.get_running_loop().call_soon(self._requests.ended, record)
