"""Reading a request's body, on the loop's own clock."""

import asyncio

import pytest

from services.gateway.byte_budget import ByteBudget
from services.gateway.http.body import BodyReader
from services.gateway.http.errors import BodyTooSlow
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
