"""Requests whose decode worker fails go on elsewhere, and the client sees nothing but latency."""

import asyncio

import grpc
import pytest

from perigee.v1 import decode_pb2
from services.gateway.workers.router import Router
from tests.gateway.pictures import image_part, picture
from tests.gateway.suite import joined, open_suite, wait_until
from tests.support.waiting import scaled

TEXT = "Some long thought.</think>" + "".join(f"word {i} " for i in range(60))
REASONING, CONTENT = TEXT.split("</think>")


@pytest.fixture
async def pair():
    """A suite with two decode workers that say TEXT."""
    async with open_suite(decodes=2) as suite:
        suite.say(TEXT)
        for decode in suite.decodes:
            decode.deaths = 1
        yield suite


def choice(text):
    return {"reasoning_content": REASONING, "content": text}


def both(suite):
    """All submits of both decode workers, in no order."""
    return [submit for decode in suite.decodes for submit in decode.submits]


async def test_a_stream_whose_worker_dies_ends_with_the_text_of_an_undisturbed_run(pair):
    for decode in pair.decodes:
        decode.fail_after = 30
    chunks = await pair.stream(max_tokens=400, seed=7)
    assert joined(chunks, "reasoning_content") == REASONING
    assert joined(chunks, "content") == CONTENT
    first, second, *_ = sorted(both(pair), key=lambda submit: len(submit.output_token_ids))
    assert len(second.output_token_ids) == 30
    assert (first.request_id, first.sampling) == (second.request_id, second.sampling)
    assert list(first.prompt_token_ids) == list(second.prompt_token_ids)


async def test_without_streaming_the_answer_is_the_same(pair):
    undisturbed = (await pair.chat(seed=1)).json()
    pair.decodes[0].fail_after = pair.decodes[1].fail_after = 5
    for decode in pair.decodes:
        decode.sent = 0
    answer = (await pair.chat(seed=1)).json()
    assert answer["choices"] == undisturbed["choices"]
    assert answer["usage"] == undisturbed["usage"]


async def test_a_worker_that_dies_before_the_first_token_is_replaced(pair):
    pair.decodes[0].fail_after = pair.decodes[1].fail_after = 0
    task = asyncio.create_task(pair.chat())
    await wait_until(lambda: both(pair))
    for decode in pair.decodes:
        decode.fail_after = None
    assert (await task).json()["choices"][0]["message"]["content"] == CONTENT


async def test_every_choice_goes_on_by_itself_with_its_index(pair):
    ids = {
        i: pair.tokenizer.encode(f"Choice {i}.</think>Answer {i} " * (i + 2), parse_special=True)
        for i in range(3)
    }
    for decode in pair.decodes:
        decode.script = lambda submit, choice: [*ids[choice], min(pair.tokenizer.stop_ids)]
    expected = (await pair.chat(n=3, seed=3)).json()["choices"]
    for decode in pair.decodes:
        decode.submits.clear()
        decode.sent, decode.fail_after = 0, 12
    assert (await pair.chat(n=3, seed=3)).json()["choices"] == expected
    resumed = [submit for submit in both(pair) if submit.output_token_ids]
    assert {(submit.first_choice, submit.sampling.n) for submit in resumed} <= {(0, 1), (1, 1), (2, 1)}
    assert resumed


async def test_a_choice_that_met_its_stop_string_is_not_resumed(pair):
    pair.decodes[0].fail_after = pair.decodes[1].fail_after = 40
    answer = (await pair.chat(stop=["word 2"])).json()
    assert answer["choices"][0]["message"]["content"] == "word 0 word 1 "
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert not [submit for submit in both(pair) if submit.output_token_ids]


async def test_a_worker_that_refuses_for_lack_of_room_is_passed_over(pair):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    pair.decodes[0].refuse = decode_pb2.RequestError(code=code, reason="OVERLOADED", message="full")
    for _ in range(6):
        assert (await pair.chat()).status_code == 200
    pair.decodes[1].refuse = pair.decodes[0].refuse
    answer = await pair.chat()
    assert answer.status_code == 429
    assert "full" in answer.json()["error"]["message"]


async def test_a_defect_is_not_tried_elsewhere(pair):
    code = grpc.StatusCode.INTERNAL.value[0]
    for decode in pair.decodes:
        decode.refuse = decode_pb2.RequestError(code=code, reason="INTERNAL", message="no")
    assert (await pair.chat()).status_code == 500
    assert len(both(pair)) == 1


async def test_failovers_are_bounded():
    async with open_suite(decodes=2, max_failovers=3) as suite:
        suite.say(TEXT)
        for decode in suite.decodes:
            decode.fail_after = 0
        answer = await suite.chat()
        assert answer.status_code == 503
        assert any(server.address in answer.text for server in suite.workers.values())
        assert len(both(suite)) == 4


async def test_the_last_worker_may_come_back_within_the_wait():
    async with open_suite(worker_wait_seconds=8.0) as suite:
        suite.say(TEXT)
        suite.decode.step_s = 0.01
        port = int(suite.workers["decode0"].address.rpartition(":")[2])
        streaming = asyncio.create_task(suite.stream())
        await wait_until(lambda: suite.decode.sent > 10)
        fake = suite.workers["decode0"]
        await fake.stop()
        await wait_until(lambda: suite.gateway.pool.missing_roles())
        suite.workers["decode0"] = await type(fake).start(fake.worker, suite.decode, port=port)
        chunks = await streaming
        assert joined(chunks, "content") == CONTENT


async def test_when_nobody_comes_within_the_wait_the_error_names_what_happened_and_what_is_missing():
    async with open_suite(worker_wait_seconds=0.5) as suite:
        suite.say(TEXT)
        suite.decode.step_s = 0.01
        asking = asyncio.create_task(suite.chat())
        await wait_until(lambda: suite.decode.sent > 10)
        await suite.workers["decode0"].stop()
        answer = await asking
        assert answer.status_code == 503
        message = answer.json()["error"]["message"]
        assert "broke the session" in message
        assert f"no decode worker can serve: {suite.workers['decode0'].address} is unreachable" in message


async def test_a_new_request_waits_for_the_last_worker_that_drains_and_goes_until_it_is_back(monkeypatch):
    tried, require = [], Router.require

    def count(router, *, images):
        tried.append(images)
        require(router, images=images)

    monkeypatch.setattr(Router, "require", count)
    async with open_suite(worker_wait_seconds=60.0) as suite:
        suite.say(TEXT)
        fake = suite.workers["decode0"]
        port = int(fake.address.rpartition(":")[2])
        fake.worker.load.draining = True
        await wait_until(lambda: suite.gateway.pool.missing_roles())
        asking = [asyncio.create_task(suite.chat()), asyncio.create_task(suite.stream())]
        await wait_until(lambda: len(tried) >= 4)
        await fake.stop()
        fake.worker.load.draining = False
        suite.workers["decode0"] = await type(fake).start(fake.worker, suite.decode, port=port)
        answer, chunks = await asyncio.gather(*asking)
        assert answer.json()["choices"][0]["message"]["content"] == CONTENT
        assert joined(chunks, "content") == CONTENT


async def test_a_worker_that_gives_no_first_token_in_time_loses_the_request():
    async with open_suite(decodes=2, first_token_timeout_seconds=scaled(1.0)) as suite:
        suite.say(TEXT)
        suite.decodes[0].admit.clear()
        answers = await asyncio.gather(*(suite.chat() for _ in range(4)))
        assert {answer.status_code for answer in answers} == {200}
        await wait_until(lambda: len(suite.decodes[0].cancels) == len(suite.decodes[0].submits))


async def test_a_worker_that_falls_silent_between_tokens_loses_the_request():
    async with open_suite(decodes=2, token_timeout_seconds=scaled(0.3)) as suite:
        suite.say(TEXT)
        slow, quick = suite.decodes
        slow.step_s = 600.0
        chunks = await asyncio.gather(*(suite.stream() for _ in range(4)))
        assert {joined(each, "content") for each in chunks} == {CONTENT}
        assert any(len(submit.output_token_ids) == 1 for submit in quick.submits)


async def test_images_are_encoded_again_for_the_worker_that_goes_on(pair):
    pair.decodes[0].fail_after = pair.decodes[1].fail_after = 20
    messages = [{"role": "user", "content": [image_part(picture())]}]
    answer = await pair.chat(messages=messages)
    assert answer.json()["choices"][0]["message"]["content"] == CONTENT
    offsets = {tuple(medium.token_offset for medium in submit.media) for submit in both(pair)}
    assert len(offsets) == 1
    assert len(both(pair)) > 1


async def test_cached_tokens_are_those_of_the_first_worker(pair):
    for decode in pair.decodes:
        decode.cached_tokens, decode.cached_tokens_resumed, decode.fail_after = 3, 0, 10
    usage = (await pair.chat()).json()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 3
    assert any(submit.output_token_ids for submit in both(pair))
