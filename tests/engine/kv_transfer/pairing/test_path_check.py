"""An operator's check of a path: every round verified, one check of a pair at a time, always an answer."""

import threading
import time
from concurrent.futures import CancelledError

import pytest

from services.common.errors import Overloaded, TransferFailed
from services.engine.kv_transfer.reads.read_request import ReadStatus
from tests.support.waiting import wait_until

MIB = 1 << 20


def test_a_check_reports_path_speed_bytes_and_the_checksum_the_owner_announced(reader, source):
    report = reader.thread.check("source", 5).result(5)
    assert (report.bytes, report.crc32) == (5 * MIB, source.thread.offer().probe_crc32)
    assert report.transport.transport == "in-memory"
    assert report.transport.gigabytes_per_second > 0
    assert 5 * MIB / report.seconds / 1e9 <= report.transport.gigabytes_per_second
    assert reader.agent.live_transfers == 0


def test_the_most_rounds_there_are_pass_without_deep_recursion(reader, source):
    assert reader.thread.check("source", 4096).result(60).bytes == 4096 * MIB


@pytest.mark.parametrize("bad_round", [1, 4])
def test_one_wrong_byte_in_any_round_fails_the_check_and_names_the_round(
    reader, source, fabric, monkeypatch, bad_round
):
    posted = []
    post = reader.agent.post

    def spoil(transfer):
        posted.append(transfer)
        fabric.corrupting["source"] = int(len(posted) == bad_round)
        return post(transfer)

    monkeypatch.setattr(reader.agent, "post", spoil)
    with pytest.raises(TransferFailed, match=f"source .*round {bad_round} of 6: the CRC-32 is"):
        reader.thread.check("source", 6).result(5)
    assert len(posted) == bad_round, "it is not read a second time"
    assert reader.read("source", [0], [0]).status() == "done", "the pair stays connected"


def test_a_round_that_moves_nothing_does_not_pass_for_the_bytes_of_the_last_one(reader, source, monkeypatch):
    monkeypatch.setattr(reader.agent, "_move", lambda read: None)
    with pytest.raises(TransferFailed, match="round 1 of 2"):
        reader.thread.check("source", 2).result(5)


def test_a_second_check_of_a_pair_is_refused_and_the_first_goes_on(reader, source, fabric):
    fabric.held.add("source")
    first = reader.thread.check("source", 3)
    wait_until(lambda: reader.agent.live_transfers == 1)
    with pytest.raises(Overloaded, match="source has not ended yet"):
        reader.thread.check("source", 3).result(5)
    fabric.held.clear()
    assert first.result(5).bytes == 3 * MIB
    assert reader.thread.check("source", 1).result(5).bytes == MIB


def test_checks_of_two_pairs_run_side_by_side(reader, source, new_worker):
    other = new_worker("other", seed=3)
    reader.thread.connect(other.thread.offer()).result(5)
    checks = [reader.thread.check(name, 50) for name in ("source", "other")]
    sums = [check.result(5).crc32 for check in checks]
    assert sums == [worker.thread.offer().probe_crc32 for worker in (source, other)]


def test_reads_go_on_between_the_rounds(reader, source):
    check = reader.thread.check("source", 2000)
    assert all(reader.read("source", [entry], [entry]).status() == "done" for entry in range(20))
    assert not check.done()
    assert check.result(60).bytes == 2000 * MIB


def test_a_hung_owner_ends_the_check_and_keeps_the_buffer_until_its_read_has_settled(new_worker, fabric):
    reader, source = new_worker("reader", connect_timeout_s=0.2), new_worker("source", seed=2)
    reader.thread.connect(source.thread.offer()).result(5)
    fabric.held.add("source")
    began = time.monotonic()
    with pytest.raises(TransferFailed, match="source cannot be read: round 1 of 64: late"):
        reader.thread.check("source", 64).result(5)
    assert time.monotonic() - began < 1.0
    with pytest.raises(Overloaded):
        reader.thread.check("source", 64).result(5)
    fabric.held.clear()
    wait_until(lambda: reader.agent.live_transfers == 0)
    assert reader.thread.check("source", 2).result(5).bytes == 2 * MIB


def test_a_dead_owner_ends_the_check(reader, source, fabric):
    fabric.dead.add("source")
    with pytest.raises(TransferFailed, match="source"):
        reader.thread.check("source", 4).result(5)


def test_a_stranger_cannot_be_checked(reader):
    with pytest.raises(TransferFailed, match="nobody is not connected"):
        reader.thread.check("nobody", 4).result(5)


def test_a_broken_pair_is_connected_anew_for_a_check(reader, source, fabric):
    fabric.failing_posts["source"] = 1
    assert reader.read("source", [0], [0]).status() == "failed"
    assert reader.thread.check("source", 4).result(5).bytes == 4 * MIB


def test_a_pair_that_stays_broken_ends_the_check(reader, source, fabric):
    fabric.dead.add("source")
    assert reader.read("source", [0], [0]).status() == "failed"
    with pytest.raises(TransferFailed, match="source"):
        reader.thread.check("source", 4).result(5)


def test_a_check_waits_for_a_pair_that_is_being_connected(reader, new_worker):
    source = new_worker("source", seed=2)
    connecting = reader.thread.connect(source.thread.offer())
    assert reader.thread.check("source", 2).result(5).bytes == 2 * MIB
    assert connecting.done()


def test_an_idle_pair_is_not_probed_beside_a_check(new_worker, fabric, monkeypatch):
    reader, source = new_worker("reader", idle_check_s=1.0), new_worker("source", seed=2)
    reader.thread.connect(source.thread.offer()).result(5)
    posts = []
    post = reader.agent.post
    monkeypatch.setattr(reader.agent, "post", lambda transfer: (posts.append(transfer), post(transfer))[1])
    fabric.held.add("source")
    check = reader.thread.check("source", 2)
    wait_until(lambda: reader.agent.live_transfers == 1)
    reader.clock.skip(1.1)
    read = reader.read("source", [1], [2])
    wait_until(lambda: reader.agent.live_transfers == 2)
    fabric.held.clear()
    assert read.status() == "done"
    assert check.result(5).bytes == 2 * MIB
    assert len(posts) == 3, "two rounds and the read"


def test_a_disconnect_ends_a_check(reader, source, fabric):
    fabric.held.add("source")
    check = reader.thread.check("source", 2)
    wait_until(lambda: reader.agent.live_transfers == 1)
    gone = reader.thread.disconnect("source")
    with pytest.raises(TransferFailed, match="source was disconnected"):
        check.result(5)
    assert not gone.done()
    fabric.held.clear()
    gone.result(5)
    with pytest.raises(TransferFailed, match="not connected"):
        reader.thread.check("source", 2).result(5)


def test_a_check_nobody_waits_for_any_more_stops(reader, source):
    check = reader.thread.check("source", 4096)
    assert check.cancel()
    with pytest.raises(CancelledError):
        check.result(0)
    assert reader.thread.check("source", 1).result(2).bytes == MIB


def test_closing_answers_a_check(reader, source, fabric):
    fabric.held.add("source")
    checks = [reader.thread.check("source", 2)]
    wait_until(lambda: reader.agent.live_transfers == 1)
    reader.thread.close()
    checks.append(reader.thread.check("source", 2))
    for check in checks:
        with pytest.raises(TransferFailed, match="clos"):
            check.result(5)


def test_a_check_sent_while_the_thread_is_closing_is_answered(reader, source):
    busy, release = threading.Event(), threading.Event()
    reader.read("source", [0], [0], on_complete=lambda _: (busy.set(), release.wait(5)))
    assert busy.wait(5)
    closing = threading.Thread(target=reader.thread.close)
    closing.start()
    wait_until(lambda: reader.thread._inbox._queue.qsize())
    check = reader.thread.check("source", 1)
    release.set()
    with pytest.raises(TransferFailed, match="closing"):
        check.result(5)
    closing.join()


def test_checks_do_not_change_how_a_connect_verifies(reader, new_worker, fabric):
    source = new_worker("source", seed=2)
    fabric.corrupting["source"] = 1
    assert reader.thread.connect(source.thread.offer()).result(5).transport == "in-memory"
    assert reader.read("source", [0], [0]).outcome().status is ReadStatus.DONE


def test_many_askers_never_see_bytes_of_another_round(reader, source):
    outcomes = []

    def ask():
        for _ in range(20):
            try:
                outcomes.append(reader.thread.check("source", 3).result(5).bytes)
            except Overloaded:
                outcomes.append(0)

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert len(outcomes) == 80
    assert set(outcomes) <= {0, 3 * MIB}
    assert 3 * MIB in outcomes
