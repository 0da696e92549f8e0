"""Assigns examples to rows: each goes into the first row of the smallest length that still has room."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from training.data.example import Example


class Packer:
    """Rows of the given lengths, filled in the order in which the examples arrive."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self._lengths = sorted(lengths)
        self.rows: dict[int, list[list[Example]]] = {length: [] for length in self._lengths}
        self._room: dict[int, list[int]] = {length: [] for length in self._lengths}

    def add(self, example: Example) -> None:
        """Adds an example to a row. ValueError if no row is long enough."""
        size = len(example.token_ids)
        length = next((length for length in self._lengths if size <= length), None)
        if length is None:
            raise ValueError(
                f"an example of {example.skill} has {size} tokens; rows have {self._lengths[-1]}"
            )
        room = self._room[length]
        place = next((index for index, free in enumerate(room) if free >= size), None)
        if place is None:
            self.rows[length].append([example])
            room.append(length - size)
        else:
            self.rows[length][place].append(example)
            room[place] -= size


def pack(examples: Iterable[Example], lengths: Sequence[int]) -> dict[int, list[list[Example]]]:
    """Packs all examples; returns the rows by row length."""
    packer = Packer(lengths)
    for example in examples:
        packer.add(example)
    return packer.rows
