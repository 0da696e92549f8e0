"""The engine's step, on the CPU: what it compares, and what it would find."""

from __future__ import annotations

import pytest
import torch

from benchmarks.gpu_first import engine
from benchmarks.gpu_first.copies import PAGES, CopyCheck, LateCopies
from benchmarks.gpu_first.engine import CPU, NANO, answers, gaps, questions, runner_on, sampler_on
from benchmarks.gpu_first.findings import Findings
from services.engine.kv_cache.page_manager import PageManager


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tokens():
    return [token for prompt in questions(NANO, 24) for token in prompt]


class DeferredCopies(LateCopies):
    """Makes the copies when the next batch is computed, or waited for: as late as a GPU may."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.pending = []

    def copy(self, source, destination):
        self.copies += 1
        self.pending.append((source, destination))

    def mark(self):
        self.make_copies()
        return super().mark()

    def forward(self, *arguments, **named):
        self.make_copies()
        return super().forward(*arguments, **named)

    def make_copies(self):
        for source, destination in self.pending:
            self.kv_pages[destination].copy_(self.kv_pages[source])
        self.pending.clear()


def check_of(kind, tokens, monkeypatch):
    monkeypatch.setattr(engine, "LateCopies", kind)
    runner = runner_on(NANO, CPU, PAGES, deterministic=True)
    return CopyCheck(runner, sampler_on(NANO, CPU), tokens, lambda: None, overlaps=True)


@pytest.mark.parametrize("kind", [LateCopies, DeferredCopies])
def test_answers_that_go_on_from_late_copies_are_right(kind, tokens, monkeypatch):
    check = check_of(kind, tokens, monkeypatch)
    counted = check.run()
    assert check.wrong == []
    assert counted["far"] == (0, 1), "a fetch reads into the page of the tail"
    assert counted["near"] == (1, 0)
    assert counted["near beside far"] == (1, 1)


def test_a_case_in_which_no_tail_is_copied_shows_nothing_and_is_wrong(tokens, monkeypatch):
    monkeypatch.setattr(PageManager, "remember_tail", lambda *arguments: None)
    check = check_of(LateCopies, tokens, monkeypatch)
    check.run()
    assert any(wrong.startswith("near: 0 copies") for wrong in check.wrong)


def test_the_delay_stands_before_each_copy_and_nothing_else(tokens, monkeypatch):
    delays = []
    check = check_of(LateCopies, tokens, monkeypatch)
    check.delay = lambda: delays.append(check.runner.copies)
    counted = check.run()
    assert len(delays) == sum(copies for copies, _ in counted.values())


def test_a_tail_that_is_copied_though_a_fetch_reads_into_its_page_is_found(tokens, monkeypatch):
    reserve = PageManager.reserve_with_tail

    def careless(self, table, hashes, request, context, headroom, is_computed_here):
        return reserve(self, table, hashes, request, context, headroom, lambda start: True)

    monkeypatch.setattr(PageManager, "reserve_with_tail", careless)
    check = check_of(DeferredCopies, tokens, monkeypatch)
    check.run()
    assert any(wrong.startswith("far: ") for wrong in check.wrong)


def test_the_cpus_own_tokens_have_no_gap_and_another_one_has():
    prompts = questions(NANO, 3)
    runner = runner_on(NANO, CPU, 3 * engine._PROMPT_PAGES, deterministic=True)
    found = answers(runner, sampler_on(NANO, CPU), prompts, 4, overlaps=True)
    assert gaps(NANO, prompts, found) == [[0.0] * 4] * 3
    found[1][2] = (found[1][2] + 1) % 1000
    measured = gaps(NANO, prompts, found)
    assert measured[0] == measured[2] == [0.0] * 4
    assert measured[1][:2] == [0.0] * 2
    assert measured[1][2] > engine.TOLERANCE


def test_the_prompts_are_different_and_every_eighth_spans_pages():
    prompts = questions(NANO, 64)
    assert len({tuple(prompt) for prompt in prompts}) == 64
    long = [len(prompt) for prompt in prompts[7::8]]
    assert min(long) > 171
    assert max(long) + 32 < engine._PROMPT_PAGES * 64


def test_a_wrong_token_fails_the_step(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "gaps", lambda model, prompts, found: [[0.0, 0.6]])
    findings = Findings(tmp_path)
    assert not engine.check_rows(findings, NANO, CPU, rows=1, tokens=2)
    assert findings.found["worst_gap"] == 0.6
