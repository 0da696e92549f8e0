"""Connecting, checking, losing and forgetting peers."""

import dataclasses

import numpy as np
import pytest

from services.common.errors import Incompatible, TransferFailed
from services.engine.kv_transfer.pairing.peer_table import RENEW_AFTER_S
from tests.support.waiting import wait_until


def test_connecting_twice_is_the_same_connection(reader, source):
    first = reader.thread.connect(source.thread.offer()).result(5)
    lists = reader.agent.live_lists
    assert reader.thread.connect(source.thread.offer()).result(5) == first
    assert reader.agent.live_lists == lists


def test_reads_may_follow_a_connect_at_once(reader, new_worker):
    source = new_worker("source", seed=2)
    future = reader.thread.connect(source.thread.offer())
    assert reader.read("source", [1], [2]).status() == "done"
    assert future.done()


def test_other_entry_sizes_are_incompatible(reader, new_worker):
    other = new_worker("other", entry_bytes=128)
    with pytest.raises(Incompatible, match="kv entries of 128 bytes; this worker's have 256"):
        reader.thread.connect(other.thread.offer()).result(5)
    assert reader.read("other", [0], [0]).status() == "failed"


def test_metadata_of_somebody_else_is_incompatible(reader, source, new_worker):
    other = new_worker("other")
    offer = dataclasses.replace(other.thread.offer(), agent_metadata=b"in-memory:source")
    with pytest.raises(Incompatible, match="carries the metadata of source"):
        reader.thread.connect(offer).result(5)


def test_an_offer_under_the_readers_own_name_never_makes_it_read_its_own_memory(reader, source):
    mine = reader.thread.offer()
    for offer in (dataclasses.replace(source.thread.offer(), agent_name="reader"), dataclasses.replace(mine)):
        with pytest.raises(Incompatible, match="not the one under which reader is known"):
            reader.thread.connect(offer).result(5)


def test_an_offer_under_the_name_of_a_connected_worker_is_refused_and_reads_from_that_one_go_on(
    reader, source, new_worker
):
    other = new_worker("other")
    reader.thread.connect(source.thread.offer()).result(5)
    theirs = dataclasses.replace(other.thread.offer(), agent_name="source")
    with pytest.raises(Incompatible, match="not the one under which source is known"):
        reader.thread.connect(theirs).result(5)
    assert reader.read("source", [1], [2]).status() == "done"
    np.testing.assert_array_equal(reader.memory[1], source.memory[2])


def test_garbage_metadata_fails_the_connect_alone(reader, source):
    offer = dataclasses.replace(source.thread.offer(), agent_name="other", agent_metadata=b"garbage")
    with pytest.raises(TransferFailed, match="other cannot be added"):
        reader.thread.connect(offer).result(5)
    assert reader.read("source", [0], [0]).status() == "done"


def test_a_probe_that_arrives_wrong_fails_the_connect(reader, new_worker):
    source = new_worker("source")
    offer = dataclasses.replace(source.thread.offer(), probe_crc32=1)
    with pytest.raises(TransferFailed, match="corrupt"):
        reader.thread.connect(offer).result(5)
    assert reader.thread.connect(source.thread.offer()).result(5).transport == "in-memory"


def test_a_peer_reached_by_a_fallback_is_refused_where_rdma_is_expected(new_worker):
    source = new_worker("source")
    strict = new_worker("strict", rdma=True, expected="rdma", allow_fallback=False)
    strict.agent.rdma = False
    with pytest.raises(Incompatible, match="UCX chose in-memory"):
        strict.thread.connect(source.thread.offer()).result(5)


def test_a_hung_peer_does_not_hold_a_connect_beyond_its_time(new_worker, fabric):
    reader, source = new_worker("reader", connect_timeout_s=0.1), new_worker("source")
    fabric.held.add("source")
    with pytest.raises(TransferFailed, match="source"):
        reader.thread.connect(source.thread.offer()).result(5)
    again = reader.thread.connect(source.thread.offer())
    with pytest.raises(TransferFailed, match="its last transfers have not ended"):
        again.result(5)
    fabric.held.clear()
    assert reader.thread.connect(source.thread.offer()).result(5).transport == "in-memory"


def test_a_dead_peer_fails_its_reads_settles_them_and_leaves_others_alone(reader, source, new_worker, fabric):
    other = new_worker("other", seed=3)
    reader.thread.connect(other.thread.offer()).result(5)
    fabric.held.add("source")
    reads = [reader.read("source", [entry], [entry]) for entry in range(5)]
    wait_until(lambda: reader.agent.live_transfers == 5)
    fabric.dead.add("source")
    for read in reads:
        assert read.status() == "failed"
        assert "source is gone" in read.outcome().message
        read.wait_settled()
    assert reader.read("source", [0], [0]).status() == "failed"
    assert reader.read("other", [0], [1]).status() == "done"


def test_a_broken_connection_is_renewed_by_a_later_read(reader, source, fabric):
    fabric.failing_posts["source"] = 1
    assert reader.read("source", [0], [0]).status() == "failed"
    assert "cannot be read" in reader.read("source", [0], [0]).outcome().message
    reader.clock.skip(RENEW_AFTER_S)
    assert reader.read("source", [7], [8]).status() == "done"
    np.testing.assert_array_equal(reader.memory[7], source.memory[8])
    assert reader.agent.live_transfers == 0


def test_a_broken_connection_is_renewed_at_once_by_a_connect(reader, source, fabric):
    fabric.failing_posts["source"] = 1
    assert reader.read("source", [0], [0]).status() == "failed"
    assert reader.thread.connect(source.thread.offer()).result(5).transport == "in-memory"
    assert reader.read("source", [0], [0]).status() == "done"


def test_a_broken_connection_is_renewed_only_after_its_flights_have_settled(reader, source, fabric):
    fabric.held.add("source")
    flying = reader.read("source", [0], [0])
    wait_until(lambda: reader.agent.live_transfers == 1)
    fabric.failing_posts["source"] = 1
    assert reader.read("source", [1], [1]).status() == "failed"
    future = reader.thread.connect(source.thread.offer())
    lists = reader.agent.live_lists
    reader.turn()
    assert reader.agent.live_lists == lists
    assert not future.done()
    fabric.held.clear()
    assert flying.status() == "done"
    assert future.result(5).transport == "in-memory"


def test_a_peer_that_stays_dead_fails_every_read_and_is_tried_again(reader, source, fabric):
    fabric.dead.add("source")
    assert reader.read("source", [0], [0]).status() == "failed"
    reader.clock.skip(RENEW_AFTER_S)
    assert reader.read("source", [0], [0]).status() == "failed"
    fabric.dead.clear()
    reader.clock.skip(RENEW_AFTER_S)
    assert reader.read("source", [0], [0]).status() == "done"


def test_a_new_incarnation_is_read_beside_the_stale_one(reader, source, new_worker, fabric):
    fabric.held.add("source")
    stale = reader.read("source", [0], [0], deadline_s=0.05)
    assert stale.status() == "late"
    successor = new_worker("source-2", seed=9)
    reader.thread.connect(successor.thread.offer()).result(5)
    assert reader.read("source-2", [1], [2]).status() == "done"
    np.testing.assert_array_equal(reader.memory[1], successor.memory[2])
    assert not stale.settled.is_set()
    fabric.held.clear()
    stale.wait_settled()


def test_a_disconnect_waits_for_flights_and_refuses_new_reads(reader, source, fabric):
    fabric.held.add("source")
    flying = reader.read("source", [0], [0])
    wait_until(lambda: reader.agent.live_transfers == 1)
    gone = reader.thread.disconnect("source")
    assert reader.read("source", [1], [1]).status() == "failed"
    assert not gone.done()
    fabric.held.clear()
    assert flying.status() == "done"
    gone.result(5)
    assert reader.read("source", [0], [0]).outcome().message == "source is not connected"
    # What is left: the own region as a target, and the connection to oneself.
    assert reader.agent.live_lists == 4


def test_a_disconnect_is_idempotent_and_a_connect_after_it_begins_anew(reader, source, fabric):
    fabric.held.add("source")
    reader.read("source", [0], [0])
    wait_until(lambda: reader.agent.live_transfers == 1)
    futures = [reader.thread.disconnect("source"), reader.thread.disconnect("source")]
    again = reader.thread.connect(source.thread.offer())
    assert not again.done()
    fabric.held.clear()
    assert [future.result(5) for future in futures] == [None, None]
    assert again.result(5).transport == "in-memory"
    assert reader.read("source", [0], [0]).status() == "done"
    reader.thread.disconnect("nobody").result(5)


def test_a_pair_idle_for_long_is_checked_before_it_is_read(new_worker, fabric):
    reader, source = new_worker("reader", idle_check_s=60.0), new_worker("source", seed=2)
    reader.thread.connect(source.thread.offer()).result(5)
    reader.clock.skip(60.1)
    fabric.corrupting["source"] = 2
    read = reader.read("source", [1], [2])
    assert read.status() == "failed"
    assert "reading the probe: corrupt" in read.outcome().message
    assert reader.thread.connect(source.thread.offer()).result(5)
    reader.clock.skip(60.1)
    assert reader.read("source", [1], [2]).status() == "done"


def test_reads_of_a_hung_idle_pair_are_late_at_their_own_deadlines(new_worker, fabric):
    reader, source = new_worker("reader", idle_check_s=60.0), new_worker("source")
    reader.thread.connect(source.thread.offer()).result(5)
    reader.clock.skip(60.1)
    fabric.held.add("source")
    hasty, patient = (reader.read("source", [1], [2], deadline_s=s) for s in (0.05, 1.0))
    assert hasty.status() == "late"
    hasty.wait_settled()
    assert not patient.completed.is_set()
    fabric.held.clear()
    assert patient.status() == "done"


def test_a_cancelled_connect_future_disturbs_nobody(reader, new_worker, fabric):
    source = new_worker("source")
    fabric.held.add("source")
    future = reader.thread.connect(source.thread.offer())
    assert future.cancel()
    fabric.held.clear()
    assert reader.thread.connect(source.thread.offer()).result(5).transport == "in-memory"
