"""Reads that the ranks of a worker share, each into pages of its own."""

from __future__ import annotations

import zlib
from concurrent.futures import Future
from functools import partial

import numpy as np
import pytest

from services.common.errors import TransferFailed
from services.engine.kv_transfer.agents.region import RegionKind
from services.engine.kv_transfer.reads.inbox import reject
from services.engine.kv_transfer.reads.read_request import ReadOutcome, ReadStatus
from services.engine.kv_transfer.shared_transfer import SharedTransfer

LAYERS = 2


class Puppet:
    """A rank that does nothing by itself."""

    def __init__(self):
        self.connecting, self.asked, self.alive = Future(), [], True

    def connect(self, offer):
        return self.connecting

    def disconnect(self, agent_name):
        return self.connecting

    def read(self, request):
        self.asked.append(request)

    def is_alive(self):
        return self.alive

    def close(self):
        self.alive = False


def entries_of(*pages):
    return [page * LAYERS + layer for page in pages for layer in range(LAYERS)]


def sharing(new_worker, others):
    return new_worker("reader", seed=1, make=partial(SharedTransfer, others=others, entries_per_page=LAYERS))


@pytest.fixture
def source(new_worker):
    return new_worker("source", seed=9)


@pytest.fixture
def ranks(new_worker, source):
    """Three, the first of which leads, connected with the source."""
    others = [new_worker(f"rank {number}", seed=number + 1) for number in (1, 2)]
    leader = sharing(new_worker, [other.thread for other in others])
    leader.thread.connect(source.thread.offer()).result(5)
    return [leader, *others]


@pytest.fixture
def puppet():
    return Puppet()


@pytest.fixture
def led(new_worker, source, puppet):
    """A leader whose one other rank is a puppet."""
    leader = sharing(new_worker, [puppet])
    connected = leader.thread.connect(source.thread.offer())
    puppet.connecting.set_result(None)
    connected.result(5)
    return leader


@pytest.mark.parametrize("checked", [False, True])
def test_each_rank_reads_the_pages_of_its_share_and_no_other(ranks, source, checked):
    before = [rank.memory.copy() for rank in ranks]
    local, remote = (4, 5, 6, 9, 11), (20, 3, 7, 30, 1)
    taken = source.memory[entries_of(*remote)].reshape(len(remote), -1)
    crc32 = [zlib.crc32(page.tobytes()) for page in taken] if checked else None
    read = ranks[0].read("source", entries_of(*local), entries_of(*remote), crc32=crc32, crc_entries=LAYERS)
    assert (read.status(), read.outcome().bytes) == ("done", taken.nbytes)
    read.wait_settled()
    for number, (rank, memory) in enumerate(zip(ranks, before, strict=True)):
        for page, bytes_read in zip(local, taken, strict=True):
            if page % len(ranks) == number:
                memory[entries_of(page)] = bytes_read.reshape(LAYERS, -1)
        np.testing.assert_array_equal(rank.memory, memory)


def test_a_read_is_done_and_settled_only_when_every_share_is(led, puppet):
    read = led.read("source", entries_of(2, 3), entries_of(5, 6))
    (share,) = puppet.asked
    np.testing.assert_array_equal(share.local_entries, entries_of(3))
    np.testing.assert_array_equal(share.remote_entries, entries_of(6))
    assert not read.completed.wait(0.05)
    share.on_complete(ReadOutcome(ReadStatus.DONE, 512, 0.1))
    assert read.outcome().bytes == 1024
    assert not read.settled.wait(0.05)
    share.on_settled()
    read.wait_settled()


def test_a_share_that_fails_fails_the_read_at_once_and_it_settles_with_the_others(led, puppet):
    read = led.read("source", entries_of(1, 2), entries_of(5, 6))
    (share,) = puppet.asked
    share.on_complete(ReadOutcome(ReadStatus.LATE, 0, 0.1, "the deadline passed"))
    assert (read.status(), read.outcome().message) == ("late", "the deadline passed")
    assert not read.settled.wait(0.05)
    share.on_settled()
    read.wait_settled()
    assert led.read("source", entries_of(2), entries_of(5)).status() == "done", (
        "the next one is none the worse"
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [({"crc32": [1], "crc_entries": 3}, "checksums"), ({"kind": RegionKind.EMBEDDING}, "embedding")],
)
def test_what_is_impossible_or_no_page_is_left_to_the_leader(led, puppet, options, says):
    read = led.read("source", [2, 3], [0, 1], **options)
    assert read.status() == "failed"
    assert says in read.outcome().message
    read.wait_settled()
    assert not puppet.asked


def test_a_source_that_one_rank_cannot_reach_is_reached_by_none(new_worker, source, puppet):
    leader = sharing(new_worker, [puppet])
    connected = leader.thread.connect(source.thread.offer())
    reject(puppet.connecting, TransferFailed("no way from rank 1"))
    with pytest.raises(TransferFailed, match="no way from rank 1"):
        connected.result(5)


def test_it_lives_as_long_as_all_ranks_and_closes_them(led, puppet, caplog):
    assert led.thread.is_alive()
    puppet.alive = False
    assert not led.thread.is_alive()
    puppet.alive = True
    led.thread.close()
    assert not puppet.alive
    assert "left behind" not in caplog.text
