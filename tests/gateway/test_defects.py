"""What a defect leaves in the log: where it is, and nothing of what the client sent."""

from __future__ import annotations

import grpc
import pytest
import structlog

from perigee.v1 import chat_pb2, chat_pb2_grpc
from services.families.kimi.tokenizer import KimiTokenizer
from services.gateway.workers.stream.token_stream import TokenStream
from tests.gateway.canary import CANARY
from tests.gateway.suite import chat_body, wait_until


@pytest.fixture
def lines():
    """All that is logged."""
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
def defect(monkeypatch):
    """Lets a method raise errors that quote the client's text, as those of libraries do."""

    def breaking(cls, name):
        def broken(*_, **__):
            try:
                return {}[CANARY]
            except KeyError as error:
                raise ValueError(f"cannot encode {CANARY!r}") from error

        monkeypatch.setattr(cls, name, broken)

    return breaking


async def shown(lines, event):
    """What the log shows of the defect."""
    await wait_until(lambda: any(line["event"] == event for line in lines))
    line, *more = [line for line in lines if line["log_level"] == "error"]
    assert {each["event"] for each in (line, *more)} == {event}
    assert CANARY not in str(lines)
    assert line["exception"].startswith("ValueError\n")
    assert "KeyError\n" in line["exception"]
    assert line["exception"].count("test_defects.py") == 2
    return line


async def test_over_rest_the_line_says_where_it_was_and_quotes_nothing(suite, lines, defect):
    defect(KimiTokenizer, "encode")
    answer = await suite.chat(messages=[{"role": "user", "content": CANARY}])
    assert answer.status_code == 500
    line = await shown(lines, "request failed")
    assert line["request_id"] in answer.json()["error"]["message"]
    assert CANARY not in answer.text


async def test_over_grpc_too(suite, lines, defect):
    defect(KimiTokenizer, "encode")
    message = chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text=CANARY)])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await chat_pb2_grpc.ChatServiceStub(suite.channel).Complete(chat_pb2.ChatRequest(messages=[message]))
    line = await shown(lines, "unexpected error")
    assert line["request_id"] in caught.value.details()
    assert CANARY not in caught.value.details()


async def test_a_token_that_cannot_be_handed_on_is_not_quoted_either(suite, lines, defect):
    defect(TokenStream, "put_token")
    defect(TokenStream, "put_late_token")
    assert (await suite.chat(**chat_body())).status_code == 500
    await shown(lines, "a token could not be handed on")
