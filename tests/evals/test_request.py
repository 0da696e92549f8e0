"""Cases reach the gateway as the conversations that they are."""

from __future__ import annotations

import json

import pytest

from evals.request import chat_body
from services.families.kimi.family import KIMI
from services.gateway.http.bodies.chat import ChatBody
from services.gateway.http.bodies.decoder import BodyDecoder
from services.gateway.http.bodies.to_request import prompt_from_body
from training.skills.curriculum import Curriculum

CURRICULUM = Curriculum(1)


@pytest.mark.parametrize("skill", tuple(CURRICULUM.skills))
def test_the_gateway_reads_the_conversation_that_was_meant(skill):
    case = CURRICULUM.case(skill, 1)
    raw = json.dumps(chat_body(case.conversation, "m", 10)).encode()
    found = prompt_from_body(BodyDecoder(ChatBody).decode(raw), KIMI.profiles[0]).conversation
    assert found.thinking == case.conversation.thinking
    assert list(found.tools) == list(case.conversation.tools)
    for ours, theirs in zip(case.conversation.messages, found.messages, strict=True):
        assert ours.role == theirs.role
        assert [getattr(part, "text", "") for part in ours.content] == [
            getattr(p, "text", "") for p in theirs.content
        ]
        assert ours.tool_calls == theirs.tool_calls
