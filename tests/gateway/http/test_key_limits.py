"""Limits of a key, seen from both doors."""

import asyncio
import re

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from perigee.v1 import chat_pb2, chat_pb2_grpc
from tests.gateway.access.keys import add_key
from tests.gateway.pictures import image_part, picture
from tests.gateway.suite import chat_body, open_suite, wait_until

CHATS = "/v1/chat/completions"
CHAT = chat_pb2.ChatRequest(
    messages=[chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text="Hi")])]
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys.json"


def bearer(key):
    return {"authorization": f"Bearer {key}"}


def ask(suite, key, **body):
    return suite.http.post(CHATS, json=chat_body(**body), headers=bearer(key))


async def metric(suite, key, name):
    page = (await suite.http.get("/metrics", headers=bearer(key))).text
    found = re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def test_at_its_requests_per_minute_a_key_gets_429_with_a_code_and_a_delay_and_others_do_not(path):
    limited, other = add_key(path, "limited", requests_per_minute=2), add_key(path, "other")
    ops = add_key(path, "ops", scopes=["admin"])
    async with open_suite(api_keys=str(path)) as suite:
        assert [(await ask(suite, limited)).status_code for _ in range(3)] == [200, 200, 429]
        answer = await ask(suite, limited)
        error = answer.json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert 1 <= int(answer.headers["retry-after"]) <= 121
        assert (await ask(suite, other)).status_code == 200
        name = 'perigee_key_requests_total{key="limited",outcome="rate_limited"}'
        assert await metric(suite, ops, name) == 2
        assert await metric(suite, ops, 'perigee_key_requests_total{key="other",outcome="ok"}') == 1


async def test_over_grpc_a_limit_is_resource_exhausted_with_retry_info(path):
    key = add_key(path, requests_per_minute=1)
    async with open_suite(api_keys=str(path)) as suite:
        stub, metadata = chat_pb2_grpc.ChatServiceStub(suite.channel), (("x-api-key", key),)
        await stub.Complete(CHAT, metadata=metadata)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Complete(CHAT, metadata=metadata)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        trailing = dict(caught.value.trailing_metadata())
        details = status_pb2.Status.FromString(trailing["grpc-status-details-bin"]).details
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        assert details[0].Unpack(info)
        assert details[1].Unpack(retry)
        assert info.reason == "RATE_LIMIT_EXCEEDED"
        assert 0 < retry.retry_delay.ToSeconds() <= 121


async def test_both_doors_count_a_keys_requests_together_and_release_them(path):
    key = add_key(path, max_concurrent=2)
    async with open_suite(api_keys=str(path)) as suite:
        suite.decode.admit = asyncio.Event()
        stub = chat_pb2_grpc.ChatServiceStub(suite.channel)
        rest = asyncio.create_task(ask(suite, key))
        call = stub.Complete(CHAT, metadata=(("x-api-key", key),))
        await wait_until(lambda: len(suite.decode.submits) == 2)
        assert (await ask(suite, key)).status_code == 429
        suite.decode.admit.set()
        assert (await rest).status_code == 200
        await call
        assert (await ask(suite, key)).status_code == 200


async def test_a_client_that_hangs_up_gives_its_place_back(path):
    key = add_key(path, max_concurrent=1)
    async with open_suite(api_keys=str(path)) as suite:
        suite.decode.admit = asyncio.Event()
        asking = asyncio.create_task(ask(suite, key))
        await wait_until(lambda: len(suite.decode.submits) == 1)
        asking.cancel()
        suite.decode.admit.set()

        async def let_in():
            return (await ask(suite, key)).status_code == 200

        await wait_until(let_in)


async def test_tokens_of_prompts_and_answers_are_charged_and_a_key_that_is_over_waits(path):
    key, ops = add_key(path, tokens_per_minute=20), add_key(path, "ops", scopes=["admin"])
    async with open_suite(api_keys=str(path)) as suite:
        answer = await ask(suite, key)
        assert answer.status_code == 200
        usage = answer.json()["usage"]
        assert usage["prompt_tokens"] + usage["completion_tokens"] > 10
        names = {
            "prompt_tokens": 'perigee_key_tokens_total{key="team",kind="prompt"}',
            "completion_tokens": 'perigee_key_tokens_total{key="team",kind="generated"}',
        }
        for field, name in names.items():
            assert await metric(suite, ops, name) == usage[field]
        answer = await ask(suite, key, messages=[{"role": "user", "content": "word " * 30}])
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert len(suite.decode.submits) == 1


async def test_a_long_answer_is_charged_while_it_is_made(path):
    key = add_key(path, tokens_per_minute=1000)
    async with open_suite(api_keys=str(path)) as suite:
        suite.say("Thinking.</think>" + "word " * 40)
        [tenant] = suite.gateway._gatekeeper._by_digest.values()
        charged = []
        tenant.take_generated = charged.append
        suite.decode.step_s = 0.02
        asking = asyncio.create_task(ask(suite, key, stream=True))
        admission = suite.gateway._admission

        def some():
            admission.charge()
            return 0 < sum(charged) < 40

        await wait_until(some)
        suite.decode.step_s = 0.0
        await asking
        assert sum(charged) > 40


async def test_one_keys_flood_leaves_places_for_another_key(path):
    flood, other = add_key(path, "flood"), add_key(path, "other")
    async with open_suite(api_keys=str(path), max_concurrent_requests=8) as suite:
        suite.decode.admit = asyncio.Event()
        flooding = [asyncio.create_task(ask(suite, flood)) for _ in range(12)]
        await wait_until(lambda: sum(task.done() for task in flooding) == 6)
        refused = [(await task).json()["error"] for task in flooding if task.done()]
        assert {error["code"] for error in refused} == {"rate_limit_exceeded"}
        asking = asyncio.create_task(ask(suite, other))
        await wait_until(lambda: len(suite.decode.submits) == 7)
        suite.decode.admit.set()
        assert (await asking).status_code == 200
        assert {(await task).status_code for task in flooding} == {200, 429}


@pytest.mark.parametrize(("limits", "most"), [({}, 6), ({"max_concurrent": 4}, 4)])
async def test_a_key_is_told_how_many_prompts_it_may_send_at_once(path, limits, most):
    key = add_key(path, **limits)
    async with open_suite(api_keys=str(path), max_concurrent_requests=8) as suite:
        for count, status in ((most + 1, 400), (most, 200)):
            body = {"prompt": ["a"] * count, "max_tokens": 1}
            answer = await suite.http.post("/v1/completions", json=body, headers=bearer(key))
            assert answer.status_code == status
            assert (f"may have at most {most} at a time" in answer.text) == (status == 400)


async def test_each_prompt_of_a_batch_counts(path):
    key = add_key(path, requests_per_minute=3)
    async with open_suite(api_keys=str(path)) as suite:
        body = {"prompt": ["a", "b", "c", "d"], "max_tokens": 1}
        answer = await suite.http.post("/v1/completions", json=body, headers=bearer(key))
        assert answer.status_code == 429
        assert not suite.decode.submits


async def test_one_keys_bodies_leave_memory_for_another_key(path):
    flood, other = add_key(path, "flood"), add_key(path, "other")
    limits = {"max_held_bytes": 40_000, "max_body_bytes": 20_000}
    async with open_suite(api_keys=str(path), **limits) as suite:
        suite.decode.admit = asyncio.Event()
        long = {"messages": [{"role": "user", "content": "word " * 1900}]}
        flooding = []
        for count in range(3):
            flooding.append(asyncio.create_task(ask(suite, flood, **long)))
            await wait_until(lambda count=count: len(suite.decode.submits) == count + 1)
        refused = await ask(suite, flood, **long)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        asking = asyncio.create_task(ask(suite, other, messages=[{"role": "user", "content": "word " * 800}]))
        await wait_until(lambda: len(suite.decode.submits) == 4)
        suite.decode.admit.set()
        assert (await asking).status_code == 200
        await asyncio.gather(*flooding)


async def test_decode_and_vision_learn_whose_request_it_is(path):
    key = add_key(path, "team", weight=3)
    async with open_suite(api_keys=str(path)) as suite:
        parts = [image_part(picture()), {"type": "text", "text": "What is it?"}]
        assert (await ask(suite, key, messages=[{"role": "user", "content": parts}])).status_code == 200
        [submit] = suite.decode.submits
        assert submit.tenant != 0
        assert submit.tenant_weight == 3
        assert suite.vision.whose == [(submit.tenant, 3)]
