"""Graphs know memory by its address: whatever they read must still be there when they run."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from services.engine.kernel_model.decode_graphs import DecodeGraphs
from services.engine.model.rank import ALONE, Rank
from tests.support.address_graph import AddressGraph, FreedMemory
from tests.support.batches import batch_of

VOCAB = 8


class Marking:
    """A model whose logits show which rows this rank attends for, and with which inputs."""

    device = torch.device("cpu")
    table_columns = 2
    config = SimpleNamespace(vocab_size=VOCAB)

    def __init__(self, rank: Rank) -> None:
        self.rank = rank

    def embed(self, token_ids):
        return token_ids[:, None].float()

    def run(self, x, step, kv_pages):
        logits = torch.zeros(len(x), VOCAB)
        logits[:, 0:1] = x
        rows = step.attended.rows
        if rows is None:
            rows = torch.arange(len(x))
        logits[rows, 1] = 1 + step.attended.positions.float()
        logits[rows, 2] = step.attended.absorbed.context_lens.float()
        logits[rows, 3] = step.attended.absorbed.page_table[:, 0].float()
        return logits


@pytest.mark.parametrize(
    "rank",
    [ALONE, Rank(0, 2), Rank(1, 8, whole_attention=True), Rank(7, 8, whole_attention=True)],
    ids=["alone", "heads of 2", "rank 1 of 8", "rank 7 of 8"],
)
def test_all_graphs_read_what_their_owner_still_has_and_attend_for_the_rows_of_their_rank(rank):
    graphs = DecodeGraphs(Marking(rank), torch.zeros(1), AddressGraph, most_rows=16)
    graphs.prepare()
    for rows in (1, 2, 3, 8, 9, 16):
        steps = [([row + 3], 10 + row, [row + 1]) for row in range(rows)]
        logits = graphs.run(batch_of([(*step, True) for step in steps]))
        for row, (token_ids, position, pages) in enumerate(steps):
            is_mine = not rank.attends_for_some or row % rank.count == rank.index
            attended = [1 + position, 1 + position, pages[0]] if is_mine else [0, 0, 0]
            assert logits[row, :4].tolist() == [token_ids[0], *attended]


def test_a_graph_that_reads_memory_which_nobody_owns_any_more_fails():
    result = torch.zeros(3)

    def recorded() -> AddressGraph:
        rows = torch.tensor([0, 2])
        return AddressGraph(lambda: result.index_fill_(0, rows, 5.0))

    with pytest.raises(FreedMemory):
        recorded().replay()


def test_what_a_recording_allocated_is_overwritten_when_it_ends():
    given, seen = torch.ones(2), []
    graph = AddressGraph(lambda: seen.append(given + 1))
    assert seen[-1].isnan().all()
    graph.replay()
    assert seen[-1].isnan().all()


def test_a_recording_in_which_the_host_waits_fails():
    given = torch.ones(2)
    with pytest.raises(AssertionError, match="waits"):
        AddressGraph(lambda: given.sum().item())
