"""Pages count only if their lease was held until the reader had them: else they are fetched again."""

from __future__ import annotations

import asyncio

import pytest

from tests.decode.fetching_suite import PROMPT, FetchingSuite
from tests.support.fake_runner import greedy
from tests.support.waiting import until


@pytest.fixture
async def suite():
    suite = FetchingSuite()
    await suite.start()
    yield suite
    await suite.close()


async def test_a_prompt_whose_handshake_ended_and_began_again_is_fetched_again(suite):
    """The call that holds the lease goes on all the while."""
    heard = await suite.read_slowly()
    suite.peer.link.cancel()
    await until(suite.worker.is_free)
    again = asyncio.create_task(suite.peers.get(suite.worker.address, "prefill"))
    await until(lambda: suite.worker.owner.servicer.readers.is_paired("decode-1"))
    await suite.use_all_pages()
    assert await suite.finish(heard) == greedy(PROMPT, 4)
    assert len(suite.io.orders) == 2
    assert (await again).alive
