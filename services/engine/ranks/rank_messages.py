"""The messages that rank 0 sends to the other ranks: plain values, checked while decoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import torch
from torch import Tensor

from services.engine.batch import ForwardBatch, InputEmbeds, SequenceSlice
from services.engine.ranks.page_lists import SequencePart
from services.engine.ranks.page_spread import PageSpread


class RankWork(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A batch to compute: as in ForwardBatch, the tensors int64 as they lie in memory; of the embeddings only
    their rows.

    Two broadcasts from rank 0's device follow: the values of the embeddings, if there are any, in the dtype
    of the model, and the tokens of `late_rows`, if there are any.
    """

    token_ids: bytearray
    positions: bytearray
    slot_mapping: bytearray
    logits_rows: bytearray
    sequences: tuple[SequencePart, ...]
    embeds: bytearray | None
    scored_rows: bytearray | None
    late_rows: tuple[int, ...]

    @classmethod
    def of(
        cls, batch: ForwardBatch, sequences: tuple[SequencePart, ...], late_rows: Sequence[int]
    ) -> RankWork:
        """The message for a batch on the host."""
        return cls(
            _raw(batch.token_ids),
            _raw(batch.positions),
            _raw(batch.slot_mapping),
            _raw(batch.logits_rows),
            sequences,
            None if batch.embeds is None else _raw(batch.embeds.rows),
            None if batch.scored_rows is None else _raw(batch.scored_rows),
            tuple(late_rows),
        )

    def batch(self, sequences: tuple[SequenceSlice, ...], broadcast: Callable[[int], Tensor]) -> ForwardBatch:
        """The batch, on the host but for the embeddings' values. Its tensors share the message's memory.

        `broadcast` receives that many rows of values, in the model's dtype: `[M, hidden]`.
        """
        embeds = None
        if self.embeds is not None:
            rows = _int64(self.embeds)
            embeds = InputEmbeds(rows, broadcast(len(rows)))
        return ForwardBatch(
            _int64(self.token_ids),
            _int64(self.positions),
            _int64(self.slot_mapping),
            sequences,
            _int64(self.logits_rows),
            embeds,
            None if self.scored_rows is None else _int64(self.scored_rows),
        )


_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[RankWork | PageSpread] = msgspec.msgpack.Decoder(RankWork | PageSpread)


def encode(message: RankWork | PageSpread) -> bytes:
    """The bytes to send."""
    return _ENCODER.encode(message)


def decode(data: bytes) -> RankWork | PageSpread:
    """The message. Raises msgspec.MsgspecError for any other bytes."""
    return _DECODER.decode(data)


def _raw(tensor: Tensor) -> bytearray:
    return bytearray(tensor.numpy().data) if tensor.is_contiguous() else _raw(tensor.contiguous())


def _int64(raw: bytearray) -> Tensor:
    return torch.frombuffer(raw, dtype=torch.int64) if raw else torch.empty(0, dtype=torch.int64)
