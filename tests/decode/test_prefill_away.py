"""Prompts computed here because nobody else does: without prefill workers, or after they failed."""

from __future__ import annotations

import pytest

from services.common.errors import (
    Incompatible,
    InvalidRequest,
    MediaLost,
    Overloaded,
    TransferFailed,
    Unavailable,
    WorkerLost,
)
from tests.support.decode_bench import Bench, medium, prompt_of
from tests.support.fake_runner import greedy


class Clock:
    """Stands still unless told, or by so much with every look at it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def slow_bench(seconds_per_step: float, **limits: int) -> tuple[Bench, Clock]:
    """A worker of 128 prompt tokens per step, each of which takes so long."""
    clock = Clock()
    bench = Bench(64, clock=clock, **limits)
    forward = bench.runner.forward

    def slowly(*arguments, **options):
        clock.now += seconds_per_step
        return forward(*arguments, **options)

    bench.runner.forward = slowly
    return bench, clock


@pytest.mark.parametrize("error", [Unavailable, WorkerLost, TransferFailed])
def test_when_the_last_candidate_is_gone_the_prompt_is_computed_here(error):
    bench = Bench(8)
    heard = bench.submit(prompt_of(300), 3, prefill=["prefill:1"], n=2)
    bench.run()
    for _ in range(2 if error is TransferFailed else 1):  # a bad transfer is tried once more
        bench.fail(error("prefill:1 is gone"))
        bench.run()
    assert (heard.tokens[0], heard.tokens[1]) == (greedy(prompt_of(300), 3),) * 2
    assert heard.errors == []
    assert heard.stats[0].prefill_address == ""
    assert (heard.stats[0].cached_tokens, heard.stats[0].transfer_bytes) == (0, 0)
    bench.check_free()


@pytest.mark.parametrize("error", [Overloaded, InvalidRequest, Incompatible])
def test_what_a_living_prefill_worker_refuses_is_not_computed_here(error):
    bench = Bench(8)
    heard = bench.submit(prompt_of(300), 3, prefill=["prefill:1"])
    bench.run()
    bench.fail(error("prefill:1 refused"))
    bench.run()
    assert [type(each) for each in heard.errors] == [error]
    bench.check_free()


def test_an_embedding_that_prefill_did_not_find_is_looked_for_here_and_not_at_the_next_candidate():
    bench = Bench(4)
    image = [medium(3, 5)]
    heard = bench.submit(prompt_of(100), 3, prefill=["prefill:1", "prefill:2"], media=image)
    bench.run()
    bench.fail(MediaLost("evicted"))
    bench.run()
    assert len(bench.io.orders) == 1
    prompt, _ = bench.io.media[0]
    bench.engine.media_failed(prompt, MediaLost("evicted here, too"))
    bench.run()
    assert [error.message for error in heard.errors] == ["evicted here, too"]
    bench.check_free()


def test_a_prompt_whose_pages_with_images_are_cached_needs_no_embedding():
    bench = Bench(8)
    image = [medium(3, 5)]
    first = bench.submit(prompt_of(130), 1, prefill=["prefill:1"], media=image)
    bench.run()
    bench.fill()
    bench.run()
    again = bench.submit([*prompt_of(129), *prompt_of(100, 1)], 2, prefill=["prefill:1"], media=image)
    bench.run()
    bench.fail(MediaLost("vision is gone"))
    bench.run()
    assert bench.io.media == []
    assert first.finish() == again.finish() == "LENGTH"
    assert again.errors == []


def test_a_preempted_sequence_is_computed_here_when_its_prefill_worker_is_gone():
    bench = Bench(6)
    prompts = [prompt_of(100, 1), prompt_of(100, 2)]
    heard = [bench.submit(prompt, 120, prefill=["prefill:1"]) for prompt in prompts]
    bench.run()
    bench.fill(0)
    bench.fill(1)
    while len(bench.io.orders) == 2:
        bench.engine.step()
    assert bench.engine.load.preemptions > 0
    failed = 2
    while failed < len(bench.io.orders):
        bench.fail(WorkerLost("prefill:1 died"), number=failed)
        failed += 1
        bench.run()
    assert [each.tokens[0] for each in heard] == [greedy(prompt, 120) for prompt in prompts]
    bench.check_free()


def test_a_prompt_that_would_not_be_reached_in_its_time_is_refused_as_overload():
    bench, _ = slow_bench(1.0)
    bench.submit(prompt_of(129), 1, timeout_s=600)
    bench.run()  # from here on its rate is known: 128 tokens a second
    bench.submit(prompt_of(1025, 1), 1, timeout_s=600)
    fits = bench.submit(prompt_of(257, 2), 1, timeout_s=20)
    late = bench.submit(prompt_of(257, 3), 1, timeout_s=9)
    (error,) = late.errors
    assert type(error) is Overloaded
    # 1,024 and 256 tokens are before its 256: 12 s, of which it has 9.
    assert error.retry_after_s == pytest.approx(3.0)
    assert "12 s" in error.message
    bench.run()
    assert fits.errors == []
    bench.check_free()


def test_the_bound_is_for_the_tokens_that_are_not_cached():
    bench, _ = slow_bench(1.0)
    bench.submit(prompt_of(1025), 1, timeout_s=600)
    bench.run()
    bench.submit(prompt_of(257, 1), 1, timeout_s=600)
    turns = [bench.submit([*prompt_of(1024), 1, 2, number], 1, timeout_s=5) for number in range(3)]
    assert [turn.errors for turn in turns] == [[]] * 3
    bench.run()
    assert [turn.finish() for turn in turns] == ["LENGTH"] * 3


def test_cached_tokens_of_a_prompt_that_waits_are_not_before_another():
    bench, _ = slow_bench(1.0)
    bench.submit(prompt_of(1025), 1, timeout_s=600)
    bench.run()
    bench.submit([*prompt_of(1024), 1, 2, 3], 1, timeout_s=600)
    behind = bench.submit(prompt_of(257, 1), 1, timeout_s=5)
    assert behind.errors == []


def test_without_a_queue_or_a_measured_rate_nothing_is_refused():
    bench, clock = slow_bench(100.0)
    unmeasured = [bench.submit(prompt_of(129, number), 1, timeout_s=500) for number in range(3)]
    assert not any(heard.errors for heard in unmeasured)
    bench.run()
    clock.now += 1000.0
    bench.run()
    alone = bench.submit(prompt_of(257, 9), 1, timeout_s=5000)
    hopeless = bench.submit(prompt_of(257, 8), 1, timeout_s=1)
    assert alone.errors == []
    assert [type(error) for error in hopeless.errors] == [Overloaded]
    bench.run()
    first_in_line = bench.submit(prompt_of(257, 7), 1, timeout_s=1)
    assert first_in_line.errors == [], "else a rate measured in a bad moment could never be measured again"


def test_the_load_tells_of_the_tokens_of_prompts_that_wait_too():
    bench = Bench(6)
    bench.submit(prompt_of(257), 1)
    bench.submit(prompt_of(129, 1), 1)
    bench.submit(prompt_of(201, 2), 1, prefill=["prefill:1"])
    assert bench.engine.load.queued_tokens == 256 + 128
    bench.engine.step()
    assert bench.engine.load.queued_tokens == 128 + 128
    bench.run()


def test_lower_priorities_are_not_before_a_prompt():
    bench, _ = slow_bench(1.0)
    bench.submit(prompt_of(129), 1, timeout_s=600)
    bench.run()
    bench.submit(prompt_of(1025, 1), 1, timeout_s=600)
    urgent = bench.submit(prompt_of(257, 2), 1, timeout_s=5, priority=1)
    assert urgent.errors == []
    equal = bench.submit(prompt_of(257, 3), 1, timeout_s=5)
    assert [type(error) for error in equal.errors] == [Overloaded]


def test_a_prompt_whose_prefill_worker_died_has_the_same_bound():
    bench, _ = slow_bench(1.0)
    bench.submit(prompt_of(129), 1, timeout_s=600)
    bench.run()
    left = bench.submit(prompt_of(257, 2), 1, timeout_s=9, prefill=["prefill:1"])
    bench.run()
    bench.submit(prompt_of(1025, 1), 1, timeout_s=600)
    bench.fail(WorkerLost("prefill:1 died"))
    assert [type(error) for error in left.errors] == [Overloaded]
    bench.run()
    bench.check_free()


def test_a_request_that_has_begun_to_answer_is_not_refused():
    bench, _ = slow_bench(0.0)
    begun = bench.submit(prompt_of(100, 1), 60, prefill=["prefill:1"], timeout_s=300)
    bench.run()
    bench.fill()
    bench.engine.step()
    bench.engine.step()
    (sequence,) = bench.engine._running.members
    bench.engine._running.preempt(sequence)
    bench.engine._prompts.admit(0)
    bench.submit(prompt_of(1025, 2), 1, timeout_s=600)
    bench.engine._rate.note(128, 128, 60.0)
    bench.fail(WorkerLost("prefill:1 died"))
    assert begun.errors == []
    bench.run()
    assert begun.tokens[0] == greedy(prompt_of(100, 1), 60)


@pytest.mark.parametrize("ahead", [False, True])
def test_the_rate_is_that_of_steps_full_of_prompt_tokens(ahead):
    bench, clock = slow_bench(1.0)
    if ahead:
        bench = Bench(64, clock=clock, ahead=True)
        mark = bench.runner.mark

        def late_mark():
            clock.now += 1.0
            return mark()

        bench.runner.mark = late_mark
    bench.submit([5, 6, 7], 40, timeout_s=6000)  # steps of a token or two say nothing about prompts
    bench.run()
    assert bench.engine._rate.seconds(128) == 0.0
    bench.submit(prompt_of(1025), 1, timeout_s=6000)
    bench.run()
    assert bench.engine._rate.seconds(256) == pytest.approx(2.0)


def test_a_preempted_sequence_is_computed_here_when_prefill_is_full():
    bench = Bench(6)
    prompts = [prompt_of(100, 1), prompt_of(100, 2)]
    heard = [bench.submit(prompt, 120, prefill=["prefill:1"]) for prompt in prompts]
    bench.run()
    bench.fill(0)
    bench.fill(1)
    bench.run()
    answered = 2
    while answered < len(bench.io.orders):
        bench.fail(Overloaded("prefill:1 is full"), number=answered)
        answered += 1
        bench.run()
    assert bench.engine.load.preemptions > 0
    assert [each.errors for each in heard] == [[], []]
    assert [each.tokens[0] for each in heard] == [greedy(prompt, 120) for prompt in prompts]
    bench.check_free()


def test_a_request_that_began_to_answer_elsewhere_is_computed_here_when_prefill_is_full():
    bench = Bench(6)
    whole = greedy(prompt_of(200), 20)
    moved = bench.submit(prompt_of(200), 20, prefill=["prefill:1"], outputs=whole[:5])
    bench.run()
    bench.fail(Overloaded("prefill:1 is full"))
    bench.run()
    assert (moved.errors, moved.tokens[0]) == ([], whole[5:])
    bench.check_free()
