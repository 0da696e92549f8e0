"""Where tokens stay on the device, the next step is launched before the host has heard of the last."""

from __future__ import annotations

import pytest
import torch

from services.engine.kv_cache.page_manager import PageManager
from services.engine.sampling.sampler import Sampler
from services.engine.sampling.spec import SamplingSpec
from services.engine.sampling.state import SamplingState
from tests.support.decode_bench import Bench, prompt_of
from tests.support.fake_runner import VOCAB, FakeRunner, fake_pages, greedy


@pytest.fixture
def events(monkeypatch):
    """Launches and waits, in the order in which they happen."""
    seen: list[str] = []

    def watch(bench: Bench) -> None:
        forward, mark = bench.runner.forward, bench.runner.mark

        def launch(batch, late, on_scored):
            seen.append(f"launch {len(bench.runner.batches)}")
            return forward(batch, late=late)

        def marked():
            number, moment = len(bench.runner.batches) - 1, mark()

            class Waited:
                @staticmethod
                def wait() -> None:
                    seen.append(f"wait {number}")
                    moment.wait()

            return Waited()

        bench.runner.forward, bench.runner.mark = launch, marked

    return seen, watch


def test_every_step_is_waited_for_behind_the_launch_of_the_next(events):
    seen, watch = events
    bench = Bench(4, ahead=True)
    watch(bench)
    heard = bench.submit([5], 4)
    bench.run()
    assert heard.tokens[0] == greedy([5], 4)
    assert seen == [
        "launch 0", "launch 1", "wait 0", "launch 2", "wait 1", "launch 3", "wait 2", "wait 3"
    ]  # fmt: skip
    bench.check_free()


def test_rows_that_need_more_than_a_draw_are_no_reason_to_wait(events):
    seen, watch = events
    bench = Bench(4, ahead=True)
    watch(bench)
    request = bench.request([5], 3)
    request.spec = SamplingSpec(temperature=0.0, logit_bias=((1, 0.5),))
    plain = bench.submit([6], 3)
    bench.engine.submit(request)
    bench.run()
    assert plain.tokens[0] == greedy([6], 3)
    assert bench.heard[request.handle].tokens[0] == greedy([5], 3)
    assert seen == ["launch 0", "launch 1", "wait 0", "launch 2", "wait 1", "wait 2"]


def test_two_steps_that_land_together_are_told_one_after_the_other():
    bench = Bench(4, ahead=True)
    first = bench.submit([5], 3)
    bench.engine.step()
    bench.engine.step()
    joining = bench.request([6], 2)
    joining.spec = SamplingSpec(temperature=0.0, logprobs=True)
    bench.engine.submit(joining)
    bench.run()
    assert first.tokens[0] == greedy([5], 3)
    assert bench.heard[joining.handle].tokens[0] == greedy([6], 2)


def test_a_token_after_a_stop_that_was_under_way_is_not_told():
    bench = Bench(4, ahead=True)
    expected = greedy([5], 9)
    heard = bench.submit([5], 9, stop=[expected[3]])
    bench.run()
    assert heard.tokens[0] == expected[: expected.index(expected[3]) + 1]
    assert heard.finish() == "STOP"
    assert len(bench.runner.batches) == len(heard.tokens[0]) + 1
    bench.check_free()


def test_no_step_is_spent_beyond_a_limit_that_is_known():
    bench = Bench(4, ahead=True)
    bench.submit([5], 9)
    bench.run()
    assert len(bench.runner.batches) == 9


def test_pages_of_what_has_ended_are_not_free_while_the_device_may_write_to_them():
    page_manager = PageManager(4, FakeRunner(fake_pages(4)))
    first, second = page_manager.new_table(), page_manager.new_table()
    for table in (first, second):
        table.ensure(64)
    page_manager.step_begins()
    page_manager.retire(first)
    page_manager.step_begins()
    page_manager.retire(second)
    assert page_manager.counts().free == 2
    page_manager.step_ended()
    assert page_manager.counts().free == 3
    page_manager.step_ended()
    assert page_manager.counts().free == 4


def test_a_cancelled_prompt_keeps_its_pages_until_its_chunk_is_computed():
    bench = Bench(4, ahead=True, local_prefill_tokens=1000, chunk_tokens=64)
    request = bench.request(prompt_of(200), 5)
    bench.engine.submit(request)
    bench.engine.step()
    bench.engine.cancel(bench.session, request.handle)
    assert bench.engine.load.pages.used == 4
    bench.run()
    bench.check_free()


def test_a_row_without_a_maximum_fails_alone_and_its_token_can_be_looked_up():
    states = [SamplingState(SamplingSpec(temperature=1.0), 1, 0, [1]) for _ in range(2)]
    logits = torch.zeros(2, VOCAB)
    logits[0] = float("nan")
    far = Sampler(VOCAB, lambda logits, states: torch.full((2,), 1 << 40))
    drawn = far.begin(logits, states)
    assert int(drawn.ids.max()) < VOCAB
    failed, fine = drawn.outcomes()
    assert "maximum" in failed.message
    assert fine.token_id == VOCAB - 1
