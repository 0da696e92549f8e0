"""Learns a byte-pair encoding: repeatedly merges the most frequent pair of adjacent tokens."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise

import regex  # type: ignore[import-untyped]

from services.families.kimi.pattern import PRE_TOKEN_PATTERN

Pair = tuple[bytes, bytes]


def learn_ranks(documents: Iterable[str], num_ranks: int) -> list[bytes]:
    """Tokens by rank: the 256 bytes in the published order, then `num_ranks` - 256 merges.

    Digits stay single. Of equally frequent pairs the one that sorts first is merged, so the result depends on
    the text alone. Raises ValueError if the text has too few pairs that occur twice.
    """
    return merge_pieces(count_pieces(documents), num_ranks)


def merge_pieces(pieces: Counter[bytes], num_ranks: int) -> list[bytes]:
    """Like `learn_ranks`, from counted pre-tokens."""
    tokens = byte_order()
    merger = _Merger(pieces)
    while len(tokens) < num_ranks:
        tokens.append(merger.merge_best())
    return tokens


def byte_order() -> list[bytes]:
    """The 256 single bytes in the published order: printable Latin-1 bytes first."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)) - set(printable))
    return [bytes((byte,)) for byte in (*printable, *others)]


def count_pieces(documents: Iterable[str]) -> Counter[bytes]:
    """Counts each pre-token, except those of digits, which are never merged."""
    # Version 1 of the module's syntax supports the class intersections that the pattern uses.
    pattern = regex.compile(PRE_TOKEN_PATTERN, regex.VERSION1)
    counts: Counter[str] = Counter()
    for document in documents:
        counts.update(pattern.findall(document))
    return Counter({piece.encode(): count for piece, count in counts.items() if not piece.isnumeric()})


class _Merger:
    """The pieces with the merges so far, and the count of each adjacent pair in them."""

    def __init__(self, pieces: Counter[bytes]) -> None:
        self._pieces = [[bytes((byte,)) for byte in piece] for piece in pieces]
        self._weights = list(pieces.values())
        self._counts: Counter[Pair] = Counter()
        self._places: defaultdict[Pair, set[int]] = defaultdict(set)
        for index in range(len(self._pieces)):
            self._count(index, 1)
        self._heap = [(-count, pair) for pair, count in self._counts.items()]
        heapq.heapify(self._heap)

    def merge_best(self) -> bytes:
        """Merges the most frequent pair everywhere and returns the new token."""
        while self._heap:
            count, pair = heapq.heappop(self._heap)
            if self._counts[pair] == -count and count <= -2:
                self._merge(pair)
                return pair[0] + pair[1]
        raise ValueError("the text has too few pairs that occur twice")

    def _merge(self, pair: Pair) -> None:
        changed: set[Pair] = set()
        for index in sorted(self._places[pair]):
            changed |= self._count(index, -1)
            self._pieces[index] = _merged(self._pieces[index], pair)
            changed |= self._count(index, 1)
        for other in changed:
            heapq.heappush(self._heap, (-self._counts[other], other))

    def _count(self, index: int, sign: int) -> set[Pair]:
        piece = self._pieces[index]
        pairs = set(pairwise(piece))
        for pair in pairwise(piece):
            self._counts[pair] += sign * self._weights[index]
        for pair in pairs:
            (self._places[pair].add if sign > 0 else self._places[pair].discard)(index)
        return pairs


def _merged(piece: list[bytes], pair: Pair) -> list[bytes]:
    result: list[bytes] = []
    for token in piece:
        if result and (result[-1], token) == pair:
            result[-1] += token
        else:
            result.append(token)
    return result
