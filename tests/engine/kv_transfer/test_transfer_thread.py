import threading
import time
import zlib

import numpy as np
import pytest

from services.common.errors import ConfigError, TransferFailed
from services.engine.kv_transfer.agents.region import Region, RegionKind
from services.engine.kv_transfer.transfer_thread import TransferThread
from tests.support.manual_clock import ManualClock
from tests.support.waiting import wait_until


def test_scattered_entries_arrive_where_they_belong_and_nowhere_else(reader, source):
    before = reader.memory.copy()
    read = reader.read("source", [5, 0, 63], [9, 63, 1])
    outcome = read.outcome()
    assert (outcome.status.value, outcome.bytes) == ("done", 3 * 256)
    read.wait_settled()
    np.testing.assert_array_equal(reader.memory[[5, 0, 63]], source.memory[[9, 63, 1]])
    untouched = np.setdiff1d(np.arange(64), [5, 0, 63])
    np.testing.assert_array_equal(reader.memory[untouched], before[untouched])
    assert reader.thread.in_flight() == 0


def test_a_read_of_nothing_is_done(reader, source):
    outcome = reader.read("source", [], []).outcome()
    assert (outcome.status.value, outcome.bytes) == ("done", 0)


@pytest.mark.parametrize(
    ("local", "remote", "options", "says"),
    [
        ([64], [0], {}, "local entry 64 lies outside the region's 64"),
        ([0], [-1], {}, "remote entry -1"),
        ([0, 1], [0], {}, "2 local entries cannot take 1"),
        ([0], [0], {"kind": RegionKind.EMBEDDING}, "offers no embedding memory"),
        ([0, 1, 2], [0, 1, 2], {"crc32": [1], "crc_entries": 2}, "1 checksums of 2 entries for 3"),
    ],
)
def test_an_impossible_read_fails_with_a_reason_and_harms_nobody(
    reader, source, local, remote, options, says
):
    read = reader.read("source", local, remote, **options)
    assert read.status() == "failed"
    assert says in read.outcome().message
    read.wait_settled()
    assert reader.read("source", [0], [0]).status() == "done"


def test_a_read_from_a_stranger_fails(reader):
    read = reader.read("nobody", [0], [0])
    assert read.status() == "failed"
    assert "nobody is not connected" in read.outcome().message
    read.wait_settled()


def test_a_hung_source_makes_the_read_late_at_its_deadline_and_settles_it_later(reader, source, fabric):
    fabric.held.add("source")
    began = time.monotonic()
    read = reader.read("source", [3], [4], deadline_s=0.1)
    assert read.status() == "late"
    assert 0.1 <= time.monotonic() - began < 0.5
    assert not read.settled.wait(0.1)
    assert reader.thread.in_flight() == 1
    fabric.held.clear()
    read.wait_settled()
    assert reader.thread.in_flight() == 0
    assert reader.agent.live_transfers == 0


def test_a_read_whose_deadline_has_passed_is_never_posted(reader, source):
    before = reader.memory.copy()
    read = reader.read("source", [0], [0], deadline_s=-0.1)
    assert read.status() == "late"
    read.wait_settled()
    np.testing.assert_array_equal(reader.memory, before)


def test_bytes_that_arrive_after_the_deadline_are_not_done(reader, source, monkeypatch):
    post = reader.agent.post

    def slow_post(transfer):
        reader.clock.skip(10.0)
        return post(transfer)

    monkeypatch.setattr(reader.agent, "post", slow_post)
    read = reader.read("source", [0], [0], deadline_s=10.0)
    assert read.status() == "late"
    read.wait_settled()


def test_a_matching_checksum_is_done(reader, source):
    sums = [zlib.crc32(source.memory[[4, 9]].tobytes()), zlib.crc32(source.memory[[7, 8]].tobytes())]
    read = reader.read("source", [1, 2, 30, 4], [4, 9, 7, 8], crc32=sums, crc_entries=2)
    assert read.status() == "done"


def test_a_read_that_is_corrupt_once_is_read_again(reader, source, fabric):
    fabric.corrupting["source"] = 1
    read = reader.read("source", [1], [4], crc32=[zlib.crc32(source.memory[4].tobytes())])
    assert read.status() == "done"
    np.testing.assert_array_equal(reader.memory[1], source.memory[4])


def test_a_read_that_is_corrupt_twice_is_reported(reader, source, fabric):
    fabric.corrupting["source"] = 2
    read = reader.read("source", [1], [4], crc32=[zlib.crc32(source.memory[4].tobytes())])
    assert read.status() == "corrupt"
    assert read.outcome().bytes == 0
    assert fabric.corrupting["source"] == 0
    read.wait_settled()
    assert reader.agent.live_transfers == 0


def test_corruption_without_checksums_is_not_noticed(reader, source, fabric):
    fabric.corrupting["source"] = 1
    assert reader.read("source", [1], [4]).status() == "done"


def test_a_callback_that_raises_loses_nothing(reader, source):
    settled = threading.Event()

    def explode(_outcome):
        raise ValueError("boom")

    reader.read("source", [0], [0], on_complete=explode, on_settled=settled.set)
    assert settled.wait(5)
    assert reader.read("source", [0], [0]).status() == "done"


def test_callbacks_run_on_the_transfer_thread_and_may_ask_for_more(reader, source):
    names, second = [], []

    def again(_outcome):
        names.append(threading.current_thread().name)
        second.append(reader.read("source", [1], [1]))

    reader.read("source", [0], [0], on_complete=again)
    wait_until(lambda: second)
    assert second[0].status() == "done"
    assert names == ["kv-transfer"]


def test_closing_answers_every_read_exactly_once(reader, source, fabric):
    fabric.held.add("source")
    reads = [reader.read("source", [entry], [entry]) for entry in range(20)]
    reader.thread.close()
    reads += [reader.read("source", [0], [0])]
    for read in reads:
        assert read.status() == "failed"
        read.wait_settled()
    assert reader.thread.in_flight() == 0


def test_reads_sent_while_closing_are_answered(reader, source):
    reads, stop = [], threading.Event()

    def send():
        while not stop.wait(0.0005):
            reads.append(reader.read("source", [0], [0]))

    sender = threading.Thread(target=send)
    sender.start()
    wait_until(lambda: len(reads) > 10)
    reader.thread.close()
    stop.set()
    sender.join()
    for read in reads:
        read.wait_settled()
    assert {read.status() for read in reads} <= {"done", "failed"}
    assert reader.thread.in_flight() == 0


def test_closing_destroys_the_agent_before_it_settles_what_still_flew(reader, source, fabric):
    fabric.held.add("source")
    order = []
    close = reader.agent.close
    reader.agent.close = lambda: (order.append("agent closed"), close())
    reader.read("source", [0], [0], on_settled=lambda: order.append("settled"))
    wait_until(lambda: reader.agent.live_transfers == 1)
    reader.thread.close()
    assert order == ["agent closed", "settled"]


def test_closing_lets_short_flights_land(reader, source, fabric, new_worker):
    patient = new_worker("patient", close_grace_s=5.0)
    patient.thread.connect(source.thread.offer()).result(5)
    fabric.held.add("source")
    read = patient.read("source", [0], [0])
    wait_until(lambda: patient.agent.live_transfers == 1)
    order = []
    close = patient.agent.close
    patient.agent.close = lambda: (order.append(read.settled.is_set()), close())
    threading.Timer(0.05, fabric.held.clear).start()
    began = time.monotonic()
    patient.thread.close()
    assert time.monotonic() - began < 2.0
    assert order == [True]


def test_a_defect_of_the_thread_still_answers_everybody(reader, source, monkeypatch):
    def explode():
        raise RuntimeError("defect")

    monkeypatch.setattr(reader.agent, "poll", explode)
    wait_until(lambda: not reader.thread.is_alive())
    read = reader.read("source", [0], [0])
    assert read.status() == "failed"
    read.wait_settled()
    with pytest.raises(TransferFailed):
        reader.thread.connect(source.thread.offer()).result(5)


def test_a_call_that_does_not_return_ends_the_transfers_and_holds_up_no_closing(new_worker, monkeypatch):
    worker = new_worker("worker", stuck_after_s=0.2)
    returns = threading.Event()
    assert worker.thread.is_alive()
    monkeypatch.setattr(worker.agent, "poll", returns.wait)
    wait_until(lambda: not worker.thread.is_alive())
    began = time.monotonic()
    worker.thread.close()
    assert time.monotonic() - began < 2.0
    returns.set()
    worker.thread.close()


def test_a_process_that_was_stopped_does_not_take_its_late_thread_for_stuck(new_worker, monkeypatch):
    clock = ManualClock()
    worker = new_worker("worker", stuck_after_s=30.0, clock=clock)
    stopped, goes_on = threading.Event(), threading.Event()
    monkeypatch.setattr(worker.agent, "poll", lambda: (stopped.set(), goes_on.wait()))
    assert stopped.wait(10)
    clock.now += 40.0
    assert worker.thread.is_alive()
    turned = worker.thread._loop.turned
    goes_on.set()
    wait_until(lambda: worker.thread._loop.turned != turned)
    clock.now += 2.0
    assert worker.thread.is_alive()


def test_a_thread_that_is_late_for_a_second_more_is_stuck(new_worker, monkeypatch):
    clock = ManualClock()
    worker = new_worker("worker", stuck_after_s=30.0, clock=clock)
    stopped, goes_on = threading.Event(), threading.Event()
    monkeypatch.setattr(worker.agent, "poll", lambda: (stopped.set(), goes_on.wait()))
    assert stopped.wait(10)
    clock.now += 40.0
    assert worker.thread.is_alive()
    clock.now += 0.9
    assert worker.thread.is_alive()
    clock.now += 0.2
    assert not worker.thread.is_alive()
    goes_on.set()


def test_closing_twice_and_closing_before_the_start_are_harmless(reader, new_worker):
    reader.thread.close()
    reader.thread.close()
    new_worker("unstarted", start=False).thread.close()


def test_the_source_is_polled_fast_only_while_serving_is_pinned(new_worker, monkeypatch):
    worker = new_worker("worker", serving_poll_s=0.001, idle_poll_s=0.003)
    pauses = [0.0]
    get = worker.thread._inbox.get
    monkeypatch.setattr(worker.thread._inbox, "get", lambda pause: (pauses.append(pause), get(pause))[1])
    wait_until(lambda: pauses[-1] == 0.003)
    worker.thread.pin_serving()
    worker.thread.pin_serving()
    worker.thread.unpin_serving()
    wait_until(lambda: pauses[-1] == 0.001)
    before = len(pauses)
    worker.turn()
    assert set(pauses[before:]) <= {0.001}
    worker.thread.unpin_serving()
    wait_until(lambda: pauses[-1] == 0.003)
    with pytest.raises(ValueError, match="not pinned"):
        worker.thread.unpin_serving()


def test_a_burst_of_reads_does_not_keep_peers_waiting(reader, source):
    before = reader.agent.polls
    reads = [reader.read("source", [entry % 64], [entry % 64]) for entry in range(2000)]
    for read in reads:
        read.wait_settled()
    assert reader.agent.polls - before >= 5


def test_expected_rdma_without_a_device_refuses_to_start(new_worker):
    worker = new_worker("worker", start=False, expected="rdma", allow_fallback=False)
    with pytest.raises(ConfigError, match="memory is no RDMA device"):
        worker.thread.start()


def test_expected_rdma_falls_back_with_a_warning_where_allowed(new_worker, caplog):
    worker = new_worker("worker", start=False, expected="rdma")
    report = worker.thread.start()
    assert (report.transport, report.rdma) == ("in-memory", False)
    assert "falling back" in caplog.text


def test_the_self_test_reports_the_speed(new_worker):
    worker = new_worker("worker", start=False)
    assert worker.thread.start().gigabytes_per_second > 0


def test_a_corrupting_transport_fails_the_self_test(new_worker, fabric):
    fabric.corrupting["worker"] = 2
    worker = new_worker("worker", start=False)
    with pytest.raises(TransferFailed, match="corrupt"):
        worker.thread.start()


def test_regions_of_one_kind_twice_are_refused(new_worker):
    region = Region(RegionKind.KV, 4096, 64, 1)
    agent = new_worker("worker", start=False).agent
    for regions in ([region, region], [Region(RegionKind.PROBE, 4096, 64, 1)]):
        with pytest.raises(ValueError, match="different kinds"):
            TransferThread(agent, regions, "incarnation")


def test_there_is_no_offer_before_the_start(new_worker):
    worker = new_worker("worker", start=False)
    with pytest.raises(TransferFailed, match="not started"):
        worker.thread.offer()
