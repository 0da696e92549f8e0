"""What the engine asks of the event loop."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from services.common.errors import MediaLost
from services.decode.engine_io import DecodeIO
from tests.support.waiting import let_tasks_run, until


class HungEmbeddings:
    """A vision worker that never answers, as its reader sees it."""

    def __init__(self):
        self.running = 0
        self.started = 0
        self.error = None

    async def fetch_all(self, media, indices):
        self.running += 1
        self.started += 1
        try:
            if self.error is None:
                await asyncio.Event().wait()
            raise self.error
        finally:
            self.running -= 1


@pytest.fixture
def embeddings():
    return HungEmbeddings()


@pytest.fixture
async def io(embeddings):
    worker = SimpleNamespace(
        embeddings=embeddings, peers=None, transfer=None, name="decode-1",
       
        config=SimpleNamespace(text=SimpleNamespace(num_hidden_layers=2)),
        kv_pages=SimpleNamespace(is_cuda=False),
    )  # fmt: skip
    io = DecodeIO(worker, 1.0)
    io.failed = []
    engine = SimpleNamespace(media_failed=lambda prompt, error: io.failed.append((prompt, error)))
    io.connect(engine, SimpleNamespace(post=lambda message: message()))
    return io


class WithMedia:
    """As much of a prompt as is looked at."""

    request = SimpleNamespace(media=())


async def test_a_read_of_media_that_is_not_wanted_any_more_is_cancelled_and_nobody_hears_of_it(
    io, embeddings
):
    wanted, left = WithMedia(), WithMedia()
    io.start_media(wanted, (0,))
    io.start_media(left, (0,))
    await until(lambda: embeddings.running == 2)
    io.stop_media(left)
    await until(lambda: embeddings.running == 1)
    io.stop_media(left)
    await let_tasks_run()
    assert io.failed == []
    io.stop_media(wanted)
    await until(lambda: embeddings.running == 0)


async def test_a_read_that_is_stopped_before_it_began_never_begins(io, embeddings):
    left = WithMedia()
    io.start_media(left, (0,))
    io.stop_media(left)
    await let_tasks_run()
    assert (embeddings.running, io.failed) == (0, [])


async def test_a_read_that_fails_is_told(io, embeddings):
    embeddings.error = MediaLost("gone")
    wanted = WithMedia()
    io.start_media(wanted, (0,))
    await until(lambda: io.failed == [(wanted, embeddings.error)])
