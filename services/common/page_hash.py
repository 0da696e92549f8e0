"""Hashes of KV pages.

A page's KV depends on all tokens before it, so each hash includes its predecessor's.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from services.common.errors import InternalError

PAGE_TOKENS = 64
HASH_BYTES = 16
_ID_BYTES = 4
_NAME_BYTES = 8


@dataclass(frozen=True)
class MediaSpan:
    """A run of media pads in a token sequence.

    content_hash: identifies the medium. offset: index of its first pad in the sequence. num_tokens: number of
    pads.
    """

    content_hash: bytes
    offset: int
    num_tokens: int

    @property
    def end(self) -> int:
        """Index after its last pad."""
        return self.offset + self.num_tokens


def chain_root(salt: str = "") -> bytes:
    """Returns the parent hash of the first page: BLAKE2b(salt)."""
    return blake2b(salt.encode(), digest_size=HASH_BYTES).digest()


def chain_hashes(
    token_ids: Sequence[int],
    media: Sequence[MediaSpan] = (),
    salt: str = "",
    page_tokens: int = PAGE_TOKENS,
    known: Sequence[bytes] = (),
) -> list[bytes]:
    """Returns one 16-byte hash per whole page of `token_ids`, in order.

    Hash i = BLAKE2b(hash i-1 | the page's ids as little-endian u32 | its media records); hash -1 is
    `chain_root(salt)`. A pad contributes its medium's content hash and its offset in the medium, never the
    pad's id, so that equal prompts with different images differ. `known`: hashes of the leading pages, if a
    prefix of the sequence was hashed before; they are trusted and not computed again. Raises InternalError
    if media overlap or exceed the sequence, or if there are more known hashes than pages.
    """
    spans = _ordered(media, len(token_ids))
    hashes = list(known)
    first = len(hashes) * page_tokens
    end = len(token_ids) // page_tokens * page_tokens
    if first > end:
        raise InternalError(f"{len(hashes)} known page hashes exceed a sequence of {len(token_ids)} tokens")
    if first == end:
        return hashes
    parent = hashes[-1] if hashes else chain_root(salt)
    ids = _little_endian(token_ids[first:end])
    for span in spans:
        _blank(ids, span.offset - first, span.end - first)
    next_span = 0
    for start in range(first, end, page_tokens):
        while next_span < len(spans) and spans[next_span].end <= start:
            next_span += 1
        digest = blake2b(parent, digest_size=HASH_BYTES)
        digest.update(ids[_ID_BYTES * (start - first) : _ID_BYTES * (start - first + page_tokens)])
        digest.update(_media_records(spans[next_span:], start, start + page_tokens))
        parent = digest.digest()
        hashes.append(parent)
    return hashes


def short_name(full_hash: bytes) -> int:
    """Returns the first 8 bytes of a hash as a number: the name of a page or medium in load reports."""
    return int.from_bytes(full_hash[:_NAME_BYTES], "little")


def _little_endian(token_ids: Sequence[int]) -> bytearray:
    """Packs token ids, 4 bytes each."""
    ids = array("I", token_ids)
    if sys.byteorder == "big":
        ids.byteswap()
    return bytearray(ids.tobytes())


def _blank(ids: bytearray, start: int, end: int) -> None:
    """Zeroes the ids in [start, end), clipped to the array."""
    first, last = max(start, 0) * _ID_BYTES, min(max(end, 0) * _ID_BYTES, len(ids))
    if first < last:
        ids[first:last] = bytes(last - first)


def _ordered(media: Sequence[MediaSpan], num_tokens: int) -> list[MediaSpan]:
    spans = sorted(media, key=lambda span: span.offset)
    position = 0
    for span in spans:
        if span.offset < position or span.num_tokens < 1 or span.end > num_tokens:
            raise InternalError(
                f"media at tokens {span.offset} to {span.end} overlap others or exceed {num_tokens} tokens"
            )
        position = span.end
    return spans


def _media_records(spans: Sequence[MediaSpan], start: int, end: int) -> bytes:
    """Packs, per medium in tokens [start, end): offset in the page, pads, offset in the medium, hash."""
    records = bytearray()
    for span in spans:
        if span.offset >= end:
            break
        first, last = max(span.offset, start), min(span.end, end)
        numbers = (first - start, last - first, first - span.offset, len(span.content_hash))
        records += struct.pack("<4I", *numbers) + span.content_hash
    return bytes(records)
