"""Reads on behalf of another process, over a pipe."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent import futures

import numpy as np
import pytest

from services.common.errors import TransferFailed
from services.engine.kv_transfer.remote_reader import RemoteReader, serve_reads


@pytest.fixture
def served(new_worker):
    """The worker that reads, and the thread in which it is asked to."""
    worker = new_worker("rank", seed=1)
    worker.far, near = multiprocessing.Pipe()
    worker.serving = threading.Thread(target=serve_reads, args=(worker.far, worker.thread), daemon=True)
    worker.serving.start()
    worker.here = worker.thread
    worker.thread = RemoteReader(near)
    return worker


@pytest.fixture
def source(new_worker, served):
    worker = new_worker("source", seed=2)
    served.thread.connect(worker.thread.offer()).result(5)
    return worker


def test_it_reads_as_a_transfer_thread_does(served, source):
    read = served.read("source", [5, 0], [9, 63])
    assert (read.status(), read.outcome().bytes) == ("done", 512)
    read.wait_settled()
    np.testing.assert_array_equal(served.memory[[5, 0]], source.memory[[9, 63]])
    served.thread.disconnect("source").result(5)
    assert "not connected" in served.read("source", [5], [9]).outcome().message


def test_an_error_comes_with_its_kind_and_message(served, source, fabric):
    offer = source.thread.offer()
    served.thread.disconnect("source").result(5)
    fabric.dead.add("source")
    with pytest.raises(TransferFailed, match="source"):
        served.thread.connect(offer).result(10)


def test_a_call_that_cannot_be_decoded_ends_the_rank_and_everything_it_owed_has_failed(
    served, source, fabric
):
    fabric.held.add("source")
    read = served.read("source", [3], [4])
    served.thread._pipe.send_bytes(b"no call")
    served.serving.join(5)
    assert read.status() == "failed"
    read.wait_settled()
    assert not served.here.is_alive()


def test_a_late_read_completes_long_before_it_settles(served, source, fabric):
    fabric.held.add("source")
    read = served.read("source", [3], [4], deadline_s=0.1)
    assert read.status() == "late"
    assert not read.settled.wait(0.1)
    fabric.held.clear()
    read.wait_settled()


def test_closing_hears_what_becomes_of_every_read(served, source, fabric):
    fabric.held.add("source")
    read = served.read("source", [3], [4])
    served.thread.close()
    assert read.status() == "failed"
    read.wait_settled()
    assert not served.here.is_alive()
    assert not served.thread.is_alive()


def test_when_the_other_process_is_gone_everything_it_owed_has_failed(served, source, fabric):
    fabric.held.add("source")
    read = served.read("source", [3], [4])
    waiting = served.thread.connect(source.thread.offer())
    served.here.close()  # as a stuck or ended one: nobody serves the pipe any more
    served.serving.join(5)
    assert read.status() == "failed"
    read.wait_settled()
    assert futures.wait([waiting], 5).done
    served.thread.close()  # nobody answers: it returns because the end of the pipe was heard
    assert not served.thread.is_alive()
    assert "gone" in served.read("source", [3], [4]).outcome().message
    with pytest.raises(TransferFailed, match="gone"):
        served.thread.connect(source.thread.offer()).result(5)
