"""What a decode step sends of its page table."""

from __future__ import annotations

import random

import pytest
import torch

from services.engine.batch import SequenceSlice
from services.engine.kernel_model.page_table import DevicePageTable

CPU = torch.device("cpu")


def sequence(pages, context_len):
    return SequenceSlice(1, context_len, pages)


def test_rows_have_the_pages_of_their_sequences_however_these_come_and_go():
    dice = random.Random(5)
    table = DevicePageTable(6, 8, CPU)
    running = []
    for _ in range(300):
        if running and dice.random() < 0.2:
            running.pop(dice.randrange(len(running)))
        if len(running) < 6 and dice.random() < 0.4:
            running.append(([dice.randrange(1000)], 1))
        grown = []
        for pages, length in running:
            if length == len(pages) * 64:
                pages.append(dice.randrange(1000))
            if length < 500:
                grown.append((pages, length + dice.choice((1, 1, 63)) if length % 64 < 2 else length + 1))
        running = [(pages, min(length, len(pages) * 64)) for pages, length in grown]
        table.update([sequence(*each) for each in running])
        for row, (pages, length) in enumerate(running):
            used = -(-length // 64)
            assert table.tensor[row, :used].tolist() == pages[:used]


def test_a_step_sends_new_pages_alone_however_long_the_contexts():
    table = DevicePageTable(4, 5000, CPU)
    pages = [list(range(4000)), list(range(10))]
    assert table.update([sequence(pages[0], 255_999), sequence(pages[1], 600)]) == 4010
    assert table.update([sequence(pages[0], 256_000), sequence(pages[1], 601)]) == 0
    pages[0].append(7)
    assert table.update([sequence(pages[0], 256_001), sequence(pages[1], 602)]) == 1
    assert table.update([sequence(list(pages[1]), 603)]) == 10


def test_what_does_not_fit_is_refused():
    table = DevicePageTable(1, 2, CPU)
    with pytest.raises(ValueError, match="1 sequences of 3 pages do not fit in a table of 1 x 2"):
        table.update([sequence([1, 2, 3], 129)])
    with pytest.raises(ValueError, match="2 sequences"):
        table.update([sequence([1], 1)] * 2)
