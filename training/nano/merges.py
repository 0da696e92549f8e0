"""Learns a vocabulary in which a word has the same tokens whatever precedes it.

The published pattern keeps a word and the space or other mark before it in one piece. Merges learnt on such
pieces split " Zorvel" and "Zorvel" in different places, which makes a name hard to copy. Here, merges are
learnt on words without that mark; only then do the most frequent whole words get a token that includes their
space.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from training.nano.bpe import count_pieces, merge_pieces


def learn_copyable_ranks(documents: Iterable[str], num_ranks: int, num_spaced: int) -> list[bytes]:
    """The 256 bytes, then merges, then `num_spaced` words with a space. Digits stay single.

    Raises ValueError if the text has too few pairs or words.
    """
    bare: Counter[bytes] = Counter()
    spaced: Counter[bytes] = Counter()
    for piece, count in count_pieces(documents).items():
        mark, word = _split(piece)
        for part in (mark, word):
            if part:
                bare[part] += count
        if mark == b" ":
            spaced[word] += count
    tokens = merge_pieces(bare, num_ranks - num_spaced)
    known = set(tokens)
    frequent = [
        word for word, _ in sorted(spaced.items(), key=lambda item: (-item[1], item[0])) if word in known
    ]
    if len(frequent) < num_spaced:
        raise ValueError(f"only {len(frequent)} words with a space in front are single tokens")
    return tokens + [b" " + word for word in frequent[:num_spaced]]


def _split(piece: bytes) -> tuple[bytes, bytes]:
    """The mark before a word, and the word; a piece without letters is all mark."""
    text = piece.decode()
    if len(text) > 1 and not text[0].isalnum() and text[1].isalpha():
        return text[0].encode(), text[1:].encode()
    return (b"", piece) if text[0].isalpha() else (piece, b"")
