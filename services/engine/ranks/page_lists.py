"""Sends the page lists of a batch's sequences to processes that know most of each from the batch before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count

from services.engine.batch import ForwardBatch


@dataclass(frozen=True)
class PageTail:
    """The new pages of the page list with this number."""

    number: int
    pages: tuple[int, ...]


class PageListSender:
    """Sends what the previous batch did not.

    If a sequence's `pages` is the same object as then, it can only have grown. So what is sent for a step
    grows with the number of sequences, not with their contexts.
    """

    def __init__(self) -> None:
        self._numbers = count()
        # By identity; the list itself is kept, so that no other one gets the same identity.
        self._known: dict[int, tuple[Sequence[int], int, int]] = {}

    def pack(self, batch: ForwardBatch) -> tuple[ForwardBatch, tuple[PageTail, ...]]:
        """The batch without its page lists, and the parts of them to send."""
        known, self._known = self._known, {}
        tails = []
        for sequence in batch.sequences:
            pages, number, sent = known.get(id(sequence.pages)) or (sequence.pages, next(self._numbers), 0)
            needed = max(sent, sequence.num_pages)
            tails.append(PageTail(number, tuple(pages[sent:needed])))
            self._known[id(pages)] = known[id(pages)] = (pages, number, needed)
        bare = tuple(replace(sequence, pages=()) for sequence in batch.sequences)
        return replace(batch, sequences=bare), tuple(tails)


class PageListReceiver:
    """Keeps the lists of the previous batch; a sequence's list stays the same object."""

    def __init__(self) -> None:
        self._lists: dict[int, list[int]] = {}

    def unpack(self, batch: ForwardBatch, tails: Sequence[PageTail]) -> ForwardBatch:
        """The batch as it was before `pack`. Must be called with every batch, in order."""
        lists: dict[int, list[int]] = {}
        for tail in tails:
            # A list that two sequences share arrives in parts.
            pages = lists[tail.number] = self._lists.setdefault(tail.number, [])
            pages.extend(tail.pages)
        self._lists = lists
        whole = (
            replace(sequence, pages=lists[tail.number])
            for sequence, tail in zip(batch.sequences, tails, strict=True)
        )
        return replace(batch, sequences=tuple(whole))
