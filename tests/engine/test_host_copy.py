"""Copies to a device in pieces."""

from __future__ import annotations

import threading

import pytest
import torch

from services.engine.host_copy import Staging

CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", [(1,), (1000,), (7, 30), (64, 8), (0, 8)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_tensor_larger_than_a_buffer_arrives_whole_and_converted(shape, dtype):
    source = torch.randn(shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    staging = Staging(CPU, nbytes=120)
    assert torch.equal(staging.copy(source, dtype), source.to(dtype))


def test_a_part_of_every_row_arrives_packed():
    source = torch.arange(40 * 16, dtype=torch.int32).view(40, 16)[:, 4:8]
    copied = Staging(CPU, nbytes=100).copy(source, torch.int32)
    assert torch.equal(copied, source)
    assert copied.is_contiguous()


def test_threads_do_not_share_buffers():
    staging = Staging(CPU, nbytes=64)
    sources = [torch.full((5000, 2), number, dtype=torch.int32) for number in range(8)]
    copies = {}
    threads = [
        threading.Thread(target=lambda n=n: copies.update({n: staging.copy(sources[n], torch.int32)}))
        for n in range(len(sources))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(copies[number], source) for number, source in enumerate(sources))
