"""Rendering must not hold up the event loop."""

import asyncio
import threading

import pytest

from perigee.v1 import generation_pb2, generation_pb2_grpc
from services.families.conversation import Conversation, Message, TextPart, ToolCall
from services.families.kimi.chat_format import KimiChat
from services.families.kimi.family import KIMI
from services.families.kimi.tokenizer import KimiTokenizer
from services.gateway.pipeline.prompt.rendering import Renderer
from services.gateway.pipeline.request import ChatPrompt, TextPrompt
from services.gateway.served_model import ServedModel
from tests.gateway.local_media import local_media


class Watched:
    """A tokenizer that remembers on which thread it worked."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.threads = []
        self.special = tokenizer.special

    def encode(self, text, parse_special=False):
        self.threads.append(threading.current_thread())
        return self.tokenizer.encode(text, parse_special)


def model(tokenizer) -> ServedModel:
    return ServedModel(("m",), KIMI, KimiChat(tokenizer), 100, 100, vision=False, profile=KIMI.profiles[0])


async def test_a_long_text_is_encoded_in_a_thread_and_a_short_one_in_place(nano_dir):
    tokenizer = Watched(KimiTokenizer.from_dir(nano_dir))
    renderer = Renderer(model(tokenizer), local_media())
    for text in ("short", "long " * 5000):
        assert await renderer.tokenize(TextPrompt(text)) == (tuple(tokenizer.tokenizer.encode(text)), text)
    assert [thread is threading.main_thread() for thread in tokenizer.threads] == [True, False]


@pytest.mark.parametrize(
    ("messages", "in_place"),
    [
        ((Message("user", (TextPart("short"),)),), True),
        ((Message("user", (TextPart("x"),)),) * 65, False),
        ((Message("user", (TextPart("long " * 2000),)),), False),
        ((Message("user", name="long " * 2000),), False),
        ((Message("assistant", tool_calls=(ToolCall("f:0", "f", {"a": "long " * 2000}),)),), False),
    ],
    ids=["short", "many turns", "long content", "long name", "calls"],
)
async def test_only_a_short_conversation_is_rendered_in_place(nano_dir, messages, in_place):
    tokenizer = Watched(KimiTokenizer.from_dir(nano_dir))
    renderer = Renderer(model(tokenizer), local_media())
    await renderer.tokenize(ChatPrompt(Conversation(messages)))
    assert {thread is threading.main_thread() for thread in tokenizer.threads} == {in_place}


async def test_while_huge_texts_are_encoded_other_requests_are_answered(suite, monkeypatch):
    begun, answered, encode = threading.Semaphore(0), threading.Event(), KimiTokenizer.encode

    def hold(self, text, parse_special=False):
        if len(text) > 100_000:
            begun.release()
            assert answered.wait(60)
        return encode(self, text, parse_special)

    monkeypatch.setattr(KimiTokenizer, "encode", hold)
    stub = generation_pb2_grpc.GenerationServiceStub(suite.channel)
    request = generation_pb2.TokenizeRequest(text="Déjà vu 你好! " * 20_000)
    huge = [stub.Tokenize(request) for _ in range(3)]
    assert await asyncio.to_thread(begun.acquire, timeout=30)
    assert (await suite.chat()).status_code == 200
    answered.set()
    for call in huge:
        assert len((await call).token_ids) > 20_000
