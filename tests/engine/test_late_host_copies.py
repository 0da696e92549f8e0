"""Copies between host and GPU are made later than they are asked for."""

from __future__ import annotations

import pytest
import torch

from services.engine.host_copy import DeviceEvent, moved, to_device, to_host
from tests.support.late_stream import GPU, LateStream


@pytest.fixture
def stream():
    stream = LateStream()
    with stream.installed():
        yield stream


def test_what_was_sent_is_what_was_given_though_the_giver_writes_over_it(stream):
    values, tensor = [1, 2], torch.tensor([3, 4])
    sent = [to_device(values, torch.int64, GPU), moved(tensor, GPU)]
    values[0], tensor[0] = 9, 9
    assert len(stream.pending) == 2
    assert [each.tolist() for each in sent] == [[1, 2], [3, 4]]


def test_what_comes_back_is_there_after_a_later_event_and_not_before(stream):
    given = to_device([5], torch.int64, GPU)
    came, event, after = to_host(given), DeviceEvent(GPU), to_host(given + 1)
    assert came.tolist() != [5]
    event.wait()
    assert came.tolist() == [5]
    assert after.tolist() != [6]
    DeviceEvent(GPU).wait()
    assert after.tolist() == [6]


def test_a_pinned_buffer_that_is_written_before_its_copy_is_made_is_sent_as_it_is_then(stream):
    """So the double finds what a real GPU would only sometimes show."""
    buffer = torch.tensor([7]).pin_memory()
    sent = buffer.to(GPU, non_blocking=True)
    buffer[0] = 8
    assert sent.tolist() == [8]


@torch.inference_mode()
def test_a_conversion_waits_its_turn_like_everything_else(stream):
    given = to_device([1.5], torch.float32, GPU)
    assert given.double().tolist() == [1.5]


def test_reading_a_value_waits_for_everything_before(stream):
    total = to_device([1, 2, 3], torch.int64, GPU).sum()
    assert len(stream.pending) == 2
    assert total.item() == 6
    assert not stream.pending
