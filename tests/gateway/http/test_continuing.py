"""Answers that go on with the last message."""

import grpc
import pytest

from perigee.v1 import chat_pb2, chat_pb2_grpc

SO_FAR = {"role": "assistant", "content": "Once upon"}


def conversation(last):
    return [{"role": "user", "content": "A tale!"}, last]


def prompt_of(suite):
    return suite.tokenizer.decode(list(suite.decode.submits[-1].prompt_token_ids))


@pytest.mark.parametrize("switch", [{"continue_final_message": True}, {}])
async def test_the_last_message_is_left_open_and_its_continuation_is_content(suite, switch):
    suite.say(" a time.")
    last = SO_FAR if switch else {**SO_FAR, "partial": True}
    answer = (await suite.chat(messages=conversation(last), **switch)).json()
    assert prompt_of(suite).endswith("<|im_assistant|>assistant<|im_middle|><think></think>Once upon")
    message = answer["choices"][0]["message"]
    assert message["content"] == " a time."
    assert message["reasoning_content"] is None


async def test_reasoning_so_far_is_kept_before_the_content(suite):
    last = {**SO_FAR, "reasoning_content": "A tale, then.", "partial": True}
    await suite.chat(messages=conversation(last))
    assert prompt_of(suite).endswith("<think>A tale, then.</think>Once upon")
    await suite.chat(messages=conversation(last), thinking={"type": "disabled"})
    assert prompt_of(suite).endswith("<think></think>Once upon")


async def test_reasoning_without_content_is_gone_on_with_as_reasoning(suite):
    suite.say(" more</think>Once.")
    last = {"role": "assistant", "content": "", "reasoning_content": "Let me", "partial": True}
    answer = (await suite.chat(messages=conversation(last))).json()
    assert prompt_of(suite).endswith("<|im_middle|><think>Let me")
    message = answer["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == (" more", "Once.")


async def test_a_speaker_of_the_partial_message_is_named(suite):
    await suite.chat(messages=conversation({**SO_FAR, "name": "Bard", "partial": True}))
    assert "<|im_assistant|>Bard<|im_middle|>" in prompt_of(suite)


async def test_a_prompt_that_goes_on_is_tokenized_as_it_is_sent(suite):
    body = {"messages": conversation(SO_FAR), "continue_final_message": True}
    made = (await suite.http.post("/tokenize", json=body)).json()
    await suite.chat(**body)
    assert made["tokens"] == list(suite.decode.submits[0].prompt_token_ids)


CALL = {"id": "functions.f:0", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [{"role": "user", "content": "x"}], "continue_final_message": True},
         "continue_final_message"),
        ({"messages": [{"role": "user", "content": "x", "partial": True}]}, "messages[0].partial"),
        ({"messages": [{**SO_FAR, "partial": True}, SO_FAR]}, "messages[0].partial"),
        ({"messages": [{**SO_FAR, "tool_calls": [CALL], "partial": True}]}, "messages[0].partial"),
        ({"messages": [{**SO_FAR, "partial": True}], "add_generation_prompt": True}, "add_generation_prompt"),
    ],
)  # fmt: skip
async def test_what_cannot_be_gone_on_with_is_refused(suite, body, param):
    answer = await suite.chat(**body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


async def test_over_grpc_the_last_message_is_left_open_too(suite):
    suite.say(" a time.")
    stub = chat_pb2_grpc.ChatServiceStub(suite.channel)
    part = chat_pb2.ContentPart(text="Once upon")
    turn = chat_pb2.Message(role="assistant", content=[part])
    request = chat_pb2.ChatRequest(messages=[turn], continue_final_message=True)
    assert (await stub.Complete(request)).choices[0].content == " a time."
    assert prompt_of(suite).endswith("<think></think>Once upon")
    request.messages[0].role = "user"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Complete(request)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
