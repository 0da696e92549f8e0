"""Images in a prompt."""

from __future__ import annotations

import pytest

from tests.support.decode_bench import Bench, medium, prompt_of
from tests.support.fake_runner import greedy


def with_embedding(prompt: list[int], offset: int, num_tokens: int, value: int = 3) -> list[int]:
    return [
        token + value if offset <= place < offset + num_tokens else token
        for place, token in enumerate(prompt)
    ]


@pytest.mark.parametrize(("offset", "num_tokens"), [(0, 3), (60, 10), (96, 4), (99, 1)])
def test_embeddings_take_the_place_of_pads_also_of_the_last_token(offset, num_tokens):
    bench = Bench(4, local_prefill_tokens=1000, chunk_tokens=64)
    heard = bench.submit(prompt_of(100), 4, media=[medium(offset, num_tokens)], n=2)
    bench.run()
    assert bench.io.media[0][1] == (0,)
    bench.give_media()
    bench.run()
    expected = greedy(with_embedding(prompt_of(100), offset, num_tokens), 4)
    assert heard.tokens == {0: expected, 1: expected}
    bench.check_free()


def test_a_last_token_that_is_a_pad_brings_its_embedding_here_after_the_fetch():
    bench = Bench(4)
    prompt = prompt_of(100)
    heard = bench.submit(prompt, 4, prefill=["prefill:1"], media=[medium(99, 1)])
    bench.run()
    assert bench.io.media == []
    bench.fill()
    bench.run()
    assert heard.tokens == {}
    bench.give_media()
    bench.run()
    assert heard.tokens[0] == greedy(with_embedding(prompt, 99, 1), 4)
    bench.check_free()


@pytest.mark.parametrize("end", ["cancel", "session", "deadline"])
def test_a_request_that_leaves_while_its_media_are_read_has_the_read_stopped(end):
    bench = Bench(4, local_prefill_tokens=1000)
    request = bench.request(
        prompt_of(100), 4, media=[medium(3, 5)], timeout_s=0.0 if end == "deadline" else 60.0
    )
    bench.engine.submit(request)
    bench.engine._prompts.admit(0)
    [(prompt, _)] = bench.io.media
    assert bench.io.stopped_media == []
    if end == "cancel":
        bench.engine.cancel(bench.session, request.handle)
    elif end == "session":
        bench.engine.session_ended(bench.session)
    bench.engine.step()
    assert bench.io.stopped_media == [prompt]
    bench.engine.media_arrived(prompt, {})
    bench.check_free()


def test_equal_prompts_with_different_images_share_no_page_from_the_image_on():
    bench = Bench(8, local_prefill_tokens=1000)
    for name, value in ((1, 3.0), (2, 4.0)):
        heard = bench.submit(prompt_of(200), 4, media=[medium(70, 3, name)])
        bench.run()
        bench.give_media(value)
        bench.run()
        assert heard.tokens[0] == greedy(with_embedding(prompt_of(200), 70, 3, int(value)), 4)
    assert heard.stats[0].cached_tokens == 64


def test_a_preempted_sequence_with_an_image_gives_the_same_tokens_later():
    bench = Bench(4, local_prefill_tokens=1000)
    young_prompt = prompt_of(40, 2)
    old = bench.submit(prompt_of(40, 1), 150)
    young = bench.submit(young_prompt, 150, media=[medium(30, 4)])
    bench.engine.step()
    bench.give_media()
    bench.run()
    assert bench.engine.load.preemptions > 0
    assert old.tokens[0] == greedy(prompt_of(40, 1), 150)
    assert young.tokens[0] == greedy(with_embedding(young_prompt, 30, 4), 150)
    bench.check_free()
