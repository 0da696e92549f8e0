"""A defect in a callback costs the pair or the read it belongs to, and nothing for long."""

import threading

import pytest

from services.common.errors import TransferFailed
from services.engine.kv_transfer.agents.transport_probe import from_tables
from services.engine.kv_transfer.reads.read_request import ReadOutcome, ReadStatus
from services.engine.kv_transfer.remote_reader import RemoteReader
from tests.engine.kv_transfer.reads.test_active_read import make_read


def raise_once(monkeypatch, owner, name, error):
    """The next call of a method raises."""
    method = getattr(owner, name)

    def explode(*arguments):
        monkeypatch.setattr(owner, name, method)
        raise error

    monkeypatch.setattr(owner, name, explode)


def test_a_defect_behind_the_last_probe_fails_the_connect_at_once_and_the_next_one_succeeds(
    reader, new_worker, monkeypatch
):
    source = new_worker("source", seed=2)
    raise_once(monkeypatch, reader.agent, "transport", RuntimeError("no table"))
    with pytest.raises(
        TransferFailed, match="source cannot be read: reading the probe: RuntimeError: no table"
    ):
        reader.thread.connect(source.thread.offer()).result(5)
    assert reader.thread.connect(source.thread.offer()).result(5).transport == "in-memory"
    assert reader.read("source", [1], [2]).status() == "done"


def test_a_probe_that_takes_no_time_by_the_clock_pairs(reader, new_worker, monkeypatch):
    source = new_worker("source", seed=2)
    reader.clock.stop()
    assert reader.thread.connect(source.thread.offer()).result(5).transport == "in-memory"


def test_an_idle_pair_whose_probe_takes_no_time_by_the_clock_is_read(new_worker, monkeypatch):
    reader, source = new_worker("reader", idle_check_s=60.0), new_worker("source", seed=2)
    reader.thread.connect(source.thread.offer()).result(5)
    reader.clock.skip(60.1)
    reader.clock.stop()
    assert reader.read("source", [1], [2]).status() == "done"


def test_a_check_whose_rounds_take_no_time_by_the_clock_is_answered(reader, source, monkeypatch):
    reader.clock.stop()
    report = reader.thread.check("source", 3).result(5)
    assert report.transport.gigabytes_per_second >= 0


def test_a_defect_in_a_round_ends_the_check_and_frees_its_buffer(reader, source, monkeypatch):
    raise_once(monkeypatch, reader.agent, "make_read", RuntimeError("a defect"))
    with pytest.raises(TransferFailed, match="a defect"):
        reader.thread.check("source", 3).result(5)
    assert reader.thread.check("source", 3).result(5).bytes


@pytest.mark.parametrize("method", ["add_peer", "prepare_remote", "register"])
def test_an_offer_that_nobody_expected_fails_its_connect_and_leaves_the_thread_alive(
    reader, source, new_worker, monkeypatch, method
):
    other = new_worker("other", seed=3)
    raise_once(monkeypatch, reader.agent, method, ValueError("not in any book"))
    with pytest.raises(TransferFailed, match="not in any book"):
        reader.thread.connect(other.thread.offer()).result(5)
    assert reader.read("source", [0], [0]).status() == "done"
    assert reader.thread.connect(other.thread.offer()).result(5).transport == "in-memory"


def test_a_read_that_cannot_be_prepared_by_a_defect_fails_alone(reader, source, monkeypatch):
    raise_once(monkeypatch, reader.agent, "make_read", TypeError("an odd list"))
    read = reader.read("source", [0], [0])
    assert read.status() == "failed"
    assert "an odd list" in read.outcome().message
    read.wait_settled()
    assert reader.read("source", [0], [0]).status() == "done"


def test_a_peer_that_waits_for_a_probe_nobody_reads_is_removed(reader, new_worker, monkeypatch):
    source = new_worker("source", seed=2)
    monkeypatch.setattr("services.engine.kv_transfer.pairing.peer_table.PairProbe.start", lambda probe: None)
    with pytest.raises(TransferFailed, match="source"):
        reader.thread.connect(source.thread.offer()).result(5)
    monkeypatch.undo()
    assert reader.thread.connect(source.thread.offer()).result(5).transport == "in-memory"


def test_what_cannot_be_let_go_of_does_not_keep_the_rest(reader, source, monkeypatch):
    registered = len(reader.agent._registered)
    raise_once(monkeypatch, reader.agent, "release_list", RuntimeError("still in use"))
    reader.thread.disconnect("source").result(5)
    assert len(reader.agent._registered) == registered - 1
    assert reader.thread.connect(source.thread.offer()).result(5).transport == "in-memory"


class OddPipe:
    """Answers the first message with what is no answer."""

    def __init__(self):
        self.asked = threading.Event()

    def send_bytes(self, message):
        self.asked.set()

    def recv_bytes(self):
        assert self.asked.wait(5)
        return b"no message"

    def close(self):
        return


def test_an_answer_that_cannot_be_understood_ends_the_remote_reader_and_settles_nothing():
    events = []
    reader = RemoteReader(OddPipe())
    read = make_read(events).request
    reader.read(read)
    reader._thread.join(5)
    assert not reader.is_alive()
    assert [event.status for event in events] == [ReadStatus.FAILED], "bytes may still land"
    with pytest.raises(TransferFailed, match="gone"):
        reader.disconnect("source").result(5)


def test_half_a_table_row_costs_no_pair_its_connection():
    row = ["agent-1 inter-node cfg#1 |", "0..inf | zero-copy", "0..inf |", "0..99 | copy | tcp/eth0 |"]
    assert from_tables(row, "agent-1", to_self=False) == ("tcp", False)


def test_a_read_that_settles_without_an_outcome_has_failed():
    events = []
    make_read(events).settle()
    assert [getattr(event, "status", event) for event in events] == [ReadStatus.FAILED, "settled"]


def test_the_speed_of_a_read_that_took_no_time_is_a_number():
    assert ReadOutcome(ReadStatus.DONE, 8, 0.0).gigabytes_per_second == 0.0
    assert ReadOutcome(ReadStatus.DONE, 8 * 10**9, 2.0).gigabytes_per_second == 4.0
