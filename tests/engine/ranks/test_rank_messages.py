"""What rank 0 sends arrives as it was, and nothing else is taken for it."""

from __future__ import annotations

import dataclasses
import pickle

import msgspec
import pytest
import torch

from services.engine.batch import BatchBuilder, ForwardBatch
from services.engine.ranks.page_lists import PageListReceiver, PageListSender
from services.engine.ranks.page_spread import PageSpread
from services.engine.ranks.rank_messages import RankWork, decode, encode
from tests.support.batches import batch_of


def sent(batch: ForwardBatch, late_rows: tuple[int, ...] = ()) -> tuple[ForwardBatch, tuple[int, ...]]:
    """The batch and the late rows as another rank gets them."""
    work = decode(encode(RankWork.of(batch, PageListSender().pack(batch.sequences), late_rows)))
    assert isinstance(work, RankWork)
    sequences = PageListReceiver().unpack(work.sequences)
    return work.batch(sequences, lambda rows: torch.full((rows, 8), 1.5)), work.late_rows


def equal(found: ForwardBatch, batch: ForwardBatch) -> None:
    for name in ("token_ids", "positions", "slot_mapping", "logits_rows"):
        there, here = getattr(found, name), getattr(batch, name)
        assert (there.dtype, there.tolist()) == (here.dtype, here.tolist())
    for there, here in zip(found.sequences, batch.sequences, strict=True):
        assert (there.num_tokens, there.context_len) == (here.num_tokens, here.context_len)
        assert list(there.pages) == list(here.pages)[: here.num_pages]


def test_a_step_arrives_as_it_was():
    batch = batch_of([([7], 64, [5, 2], True), ([8, 9, 2**31], 0, [4], False), ([1], 9, [3], True)])
    found, late_rows = sent(batch, (0, 4))
    equal(found, batch)
    assert (late_rows, found.embeds) == ((0, 4), None)
    found.token_ids[0] = 3  # late tokens are written into it


def test_a_batch_without_logits_arrives_too():
    batch = batch_of([([1, 2, 3], 0, [4], False)])
    equal(sent(batch)[0], batch)


def test_scored_rows_arrive_too_and_no_field_of_a_batch_is_left_behind():
    batch = batch_of([([1, 2, 3], 0, [4], False, (), 2), ([9], 0, [5], True)])
    found, _ = sent(batch)
    equal(found, batch)
    assert [rows.tolist() for rows in found.scored_slices] == [[1, 2]]
    assert sent(batch_of([([9], 0, [5], True)]))[0].scored_rows is None
    named = {field.name for field in dataclasses.fields(ForwardBatch)}
    assert named == set(RankWork.__struct_fields__) - {"late_rows"}


def test_of_embeddings_the_message_has_the_rows_alone_and_the_values_are_received():
    values = torch.randn(3, 7168, generator=torch.Generator().manual_seed(1))
    builder = BatchBuilder()
    builder.add([1, 2, 3, 4, 5], 0, [0], True, [(1, values[:2]), (4, values[2:])])
    batch = builder.build()
    found, _ = sent(batch)
    equal(found, batch)
    assert found.embeds.rows.tolist() == [1, 2, 4]
    assert torch.equal(found.embeds.values, torch.full((3, 8), 1.5))
    assert len(encode(RankWork.of(batch, (), ()))) < 300


def test_an_order_to_copy_pages_arrives_as_it_was():
    order = PageSpread((1, 300, 70_000), 4)
    assert decode(encode(order)) == order


class Bomb:
    """Unpickling it fails the test."""

    def __reduce__(self):
        return pytest.fail, ("a message was unpickled",)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xff",
        pickle.dumps(Bomb()),
        encode(PageSpread((1,), 2))[:-1],
        encode(PageSpread((1,), 2)) + b"x",
        msgspec.msgpack.encode(["PageSpread", [1, "2"], 1]),
        msgspec.msgpack.encode(["PageSpread", [1]]),
        msgspec.msgpack.encode(["OtherMessage", 1]),
        msgspec.msgpack.encode({"pages": [1], "holders": 1}),
    ],
)
def test_other_bytes_are_refused_and_never_unpickled(data):
    with pytest.raises(msgspec.MsgspecError):
        decode(data)
