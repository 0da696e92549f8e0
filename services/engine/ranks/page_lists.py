"""Sends the page lists of a batch's sequences to processes that know most of each from the batch before."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import msgspec

from services.engine.batch import SequenceSlice


class SequencePart(msgspec.Struct, frozen=True, array_like=True):
    """A sequence of a batch: as in SequenceSlice, but of its page list only the number and the new pages."""

    num_tokens: int
    context_len: int
    list_number: int
    new_pages: tuple[int, ...]


class PageListSender:
    """Sends what the previous batch did not.

    If a sequence's `pages` is the same object as then, it can only have grown. So what is sent for a step
    grows with the number of sequences, not with their contexts.
    """

    def __init__(self) -> None:
        self._numbers = count()
        # By identity; the list itself is kept, so that no other one gets the same identity.
        self._known: dict[int, tuple[Sequence[int], int, int]] = {}

    def pack(self, sequences: Sequence[SequenceSlice]) -> tuple[SequencePart, ...]:
        """The sequences of the next batch, with the pages to send."""
        known, self._known = self._known, {}
        parts = []
        for sequence in sequences:
            pages = sequence.pages
            _, number, sent = known.get(id(pages)) or (pages, next(self._numbers), 0)
            needed = max(sent, sequence.num_pages)
            parts.append(
                SequencePart(sequence.num_tokens, sequence.context_len, number, tuple(pages[sent:needed]))
            )
            self._known[id(pages)] = known[id(pages)] = (pages, number, needed)
        return tuple(parts)


class PageListReceiver:
    """Keeps the lists of the previous batch; a sequence's list stays the same object."""

    def __init__(self) -> None:
        self._lists: dict[int, list[int]] = {}

    def unpack(self, parts: Sequence[SequencePart]) -> tuple[SequenceSlice, ...]:
        """The sequences as they were before `pack`. Must be called with every batch's parts, in order."""
        lists: dict[int, list[int]] = {}
        for part in parts:
            # A list that two sequences share arrives in parts.
            pages = lists[part.list_number] = self._lists.setdefault(part.list_number, [])
            pages.extend(part.new_pages)
        self._lists = lists
        return tuple(
            SequenceSlice(part.num_tokens, part.context_len, lists[part.list_number]) for part in parts
        )
