"""Reading a request's body, on the loop's own clock."""

import asyncio
import gzip
import zlib

import pytest

from services.common.errors import InvalidRequest
from services.gateway.byte_budget import ByteBudget
from services.gateway.http.body import BodyReader
from services.gateway.http.errors import BodyTooLarge, BodyTooSlow, UnknownEncoding
from tests.support.virtual_time import advance

pytestmark = pytest.mark.virtual_time
TIMEOUT_S = 10.0
SCOPE = {"type": "http", "headers": []}


async def read(pieces, pause_s):
    """Reads a body of so many bytes, each of which takes `pause_s` to arrive."""
    left = pieces

    async def receive():
        nonlocal left
        await advance(pause_s)
        left -= 1
        return {"type": "http.request", "body": b"x", "more_body": left > 0}

    reader = BodyReader(ByteBudget(1000), 1000, TIMEOUT_S)
    with reader.hold() as hold:
        return await reader.read(SCOPE, receive, hold)


async def test_a_body_that_drips_is_refused_in_time():
    began = asyncio.get_running_loop().time()
    with pytest.raises(BodyTooSlow, match="within 10 s"):
        await read(1000, 1.0)
    assert asyncio.get_running_loop().time() - began == pytest.approx(TIMEOUT_S)


async def test_a_body_that_is_there_in_time_is_read_however_it_is_cut():
    assert await read(9, 1.0) == b"x" * 9


LIMIT = 1 << 20
TEXT = b"All work and no play. " * 1000


class Sender:
    """Sends a body in pieces of `size` bytes; `sent` counts the bytes taken."""

    def __init__(self, body, size):
        self.sent = 0
        self._body, self._size = body, size

    async def receive(self):
        piece = self._body[self.sent : self.sent + self._size]
        self.sent += len(piece)
        return {"type": "http.request", "body": piece, "more_body": self.sent < len(self._body)}


async def decoded(encoding, body, size=1000, budget=None):
    """What the reader makes of a body; `encoding`: values of its headers."""
    sender = Sender(body, size)
    headers = [(b"content-encoding", value) for value in encoding]
    reader = BodyReader(budget or ByteBudget(2 * LIMIT), LIMIT, TIMEOUT_S)
    with reader.hold() as hold:
        try:
            return await reader.read({"type": "http", "headers": headers}, sender.receive, hold)
        finally:
            decoded.sent, decoded.held = sender.sent, hold.size


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("encoding", [[b"gzip"], [b"GZip"], [b"x-gzip"], [b"identity, gzip"], [b"", b"gzip"]])
async def test_a_gzip_body_is_decompressed_however_it_is_cut(encoding, size):
    assert await decoded(encoding, gzip.compress(TEXT), size) == TEXT
    assert decoded.held == len(TEXT)


@pytest.mark.parametrize("encoding", [[], [b""], [b"identity"], [b"Identity, identity"]])
async def test_identity_means_the_body_as_it_is(encoding):
    assert await decoded(encoding, gzip.compress(TEXT)) == gzip.compress(TEXT)


async def test_members_behind_each_other_are_one_body():
    body = gzip.compress(TEXT) + gzip.compress(b"") + gzip.compress(b"end")
    assert await decoded([b"gzip"], body, 3) == TEXT + b"end"
    assert await decoded([b"gzip"], b"") == b""


@pytest.mark.parametrize(
    "encoding", [b"br", b"zstd", b"deflate", b"compress", b"gzip, gzip", b"gzip, br", b"utf-8"]
)
async def test_any_other_encoding_is_refused_by_name_before_anything_is_read(encoding):
    with pytest.raises(UnknownEncoding, match="a body may be gzip or identity") as caught:
        await decoded([encoding], TEXT)
    assert repr(encoding.decode()) in caught.value.message
    assert decoded.sent == 0


BROKEN = {
    "no gzip": (TEXT, "is not the gzip"),
    "zlib without the frame of gzip": (zlib.compress(TEXT), "is not the gzip"),
    "cut off": (gzip.compress(TEXT)[:-1], "ends before it is whole"),
    "only the begin": (gzip.compress(TEXT)[:5], "ends before it is whole"),
    "something behind": (gzip.compress(TEXT) + b"{}", "is not the gzip|ends before"),
    "wrong checksum": (gzip.compress(TEXT)[:-8] + bytes(8), "is not the gzip"),
    "members without content": (gzip.compress(b"") * 1025, "more than 1024 members"),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_a_broken_gzip_body_is_the_callers_mistake(case):
    body, message = BROKEN[case]
    with pytest.raises(InvalidRequest, match=message):
        await decoded([b"gzip"], body)


@pytest.mark.parametrize("size", [10, 1 << 20])
async def test_a_bomb_is_refused_at_the_limit_not_after_it_is_unpacked(size):
    bomb = gzip.compress(bytes(1 << 26), 9)
    with pytest.raises(BodyTooLarge, match="larger than 1048576 bytes"):
        await decoded([b"gzip"], bomb, size)
    assert decoded.held <= LIMIT


async def test_a_body_of_the_limit_is_taken_and_one_byte_more_is_not():
    assert len(await decoded([b"gzip"], gzip.compress(bytes(LIMIT)))) == LIMIT
    with pytest.raises(BodyTooLarge):
        await decoded([b"gzip"], gzip.compress(bytes(LIMIT + 1)))


async def test_what_is_sent_is_bounded_too_even_if_it_decompresses_to_little():
    stored = gzip.compress(bytes(LIMIT // 2), 0)
    members = stored + stored[:-8] + stored[-8:]
    with pytest.raises(BodyTooLarge):
        await decoded([b"gzip"], members + stored, 1 << 16)


async def test_other_tasks_run_while_a_long_body_is_decompressed():
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)  # one turn of the loop

    other = asyncio.create_task(count())
    await decoded([b"gzip"], gzip.compress(bytes(LIMIT)), LIMIT)
    other.cancel()
    assert turns >= 3
