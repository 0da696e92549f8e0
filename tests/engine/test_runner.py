"""The runner's announcements."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from tests.engine.text_models import make_runner, tiny_config, tiny_model
from tests.support.batches import batch_of

CONFIG = tiny_config(num_hidden_layers=5)
BATCH = batch_of([(list(range(70)), 0, [2, 0], True)])


@pytest.mark.parametrize(
    ("per_group", "expected"),
    [
        (1, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]),
        (2, [(0, 2), (2, 4), (4, 5)]),
        (5, [(0, 5)]),
        (9, [(0, 5)]),
    ],
)
def test_layers_are_announced_in_groups_and_in_order(per_group, expected):
    seen: list[tuple[int, int]] = []
    runner = make_runner(tiny_model(CONFIG), 3, per_group)
    runner.forward(BATCH, lambda first, end: seen.append((first, end)))
    assert seen == expected


def test_announced_layers_are_final_and_later_ones_untouched():
    runner = make_runner(tiny_model(CONFIG), 3, layers_per_group=2)
    fresh = runner.kv_pages.clone()
    snapshots = {}
    runner.forward(BATCH, lambda first, end: snapshots.__setitem__(end, runner.kv_pages.clone()))
    for end, snapshot in snapshots.items():
        assert torch.equal(snapshot[:, :end], runner.kv_pages[:, :end])
        assert torch.equal(snapshot[:, end:], fresh[:, end:])


def test_a_device_that_runs_behind_is_given_all_layers_before_any_is_waited_for():
    runner = make_runner(tiny_model(CONFIG), 3, layers_per_group=2)
    runner._runs_ahead = True
    runner.forward(BATCH)
    whole = runner.kv_pages.clone()
    runner.kv_pages.zero_()
    seen = []
    runner.forward(BATCH, lambda first, end: seen.append((first, end, runner.kv_pages.clone())))
    assert [(first, end) for first, end, _ in seen] == [(0, 2), (2, 4), (4, 5)]
    assert all(torch.equal(pages[2], whole[2]) for _, _, pages in seen)


def test_a_pass_that_is_broken_off_ends_when_the_device_writes_no_more(monkeypatch):
    """Whoever broke it off uses its pages for something else, and that need not be a pass."""
    runner = make_runner(tiny_model(CONFIG), 3, layers_per_group=2)
    runner._runs_ahead = True
    marks, waited = [], []

    def mark():
        number = len(marks)
        marks.append(number)
        return SimpleNamespace(wait=lambda: waited.append(number))

    def break_off(first, end):
        raise KeyError(end)

    monkeypatch.setattr(runner, "mark", mark)
    with pytest.raises(KeyError):
        runner.forward(BATCH, break_off)
    assert (marks, waited) == ([0, 1, 2], [0, 2])


def test_pages_that_came_in_shares_are_whole_before_anybody_can_be_lent_them(monkeypatch):
    runner = make_runner(tiny_model(CONFIG), 3)
    seen = []
    runner._ranks = SimpleNamespace(gather=lambda kv_pages, pages: seen.append(("gather", pages)))
    monkeypatch.setattr(runner, "mark", lambda: SimpleNamespace(wait=lambda: seen.append("waited")))
    runner.share_pages([])
    runner.share_pages([2, 1])
    assert seen == [("gather", [2, 1]), "waited"]


def test_a_copied_page_is_the_same_as_its_source():
    runner = make_runner(tiny_model(CONFIG), 3)
    runner.forward(BATCH)
    runner.copy(2, 1)
    assert torch.equal(runner.kv_pages[1], runner.kv_pages[2])


def test_pages_of_nobody_and_unused_slots_stay_as_they_are():
    runner = make_runner(tiny_model(CONFIG), 3)
    before = runner.kv_pages.clone()
    runner.forward(BATCH)
    assert torch.equal(runner.kv_pages[1], before[1])
    assert torch.equal(runner.kv_pages[0, :, 6:], before[0, :, 6:])
    assert not torch.equal(runner.kv_pages[0, :, :6], before[0, :, :6])


def test_announcing_does_not_change_the_result():
    runner = make_runner(tiny_model(CONFIG), 3)
    assert torch.equal(runner.forward(BATCH), runner.forward(BATCH, lambda first, end: None))


def test_a_group_has_at_least_one_layer():
    with pytest.raises(ValueError, match="layers_per_group"):
        make_runner(tiny_model(CONFIG), 1, layers_per_group=0)
