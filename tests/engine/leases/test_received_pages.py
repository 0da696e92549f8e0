"""The bytes of received pages matter to every token, and checksums tell when they are wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from services.common.errors import TransferFailed
from services.engine.batch import PAGE_TOKENS
from services.engine.kv_cache.kv_format import FLOAT32
from services.engine.kv_cache.kv_pages import allocate_kv_pages, kv_region, layer_pages, page_crc32
from services.engine.kv_transfer.agents.memory_agent import InMemoryAgent, MemoryFabric
from services.engine.kv_transfer.agents.region import RegionKind
from services.engine.kv_transfer.transfer_thread import TransferThread
from services.engine.peers.read_group import ReadGroup
from services.engine.runner import ModelRunner
from tests.support.batches import NewTokens, batch_of
from tests.support.prompts import random_prompt
from tests.support.reference_loop import ReferenceLoop

NUM_TOKENS = 16
PROMPT = random_prompt(4 * PAGE_TOKENS + 33, "received")
NUM_PAGES = 5
"""What the prompt fills; its output goes to a sixth page where needed."""


@pytest.fixture(scope="module")
def reference(nano_dir) -> ReferenceLoop:
    return ReferenceLoop(nano_dir)


def empty_pages(reference: ReferenceLoop) -> torch.Tensor:
    config = reference.model.config
    return allocate_kv_pages(NUM_PAGES + 1, config.num_hidden_layers, config.kv_width, FLOAT32)


def forward(reference: ReferenceLoop, kv_pages: torch.Tensor, item: NewTokens) -> torch.Tensor:
    return ModelRunner(reference.model, kv_pages, 1).forward(batch_of([item]))


@pytest.fixture(scope="module")
def sent(reference: ReferenceLoop) -> torch.Tensor:
    """What a prefill worker has for the prompt: KV of all tokens but the last."""
    pages = empty_pages(reference)
    forward(reference, pages, (PROMPT[:-1], 0, range(NUM_PAGES), False))
    return pages


def decode(reference: ReferenceLoop, received: torch.Tensor) -> list[int]:
    """What a decode worker makes of the received pages."""
    context = list(PROMPT)
    for position in range(len(PROMPT) - 1, len(PROMPT) - 1 + NUM_TOKENS):
        item = (context[-1:], position, range(NUM_PAGES + 1), True)
        context.append(int(forward(reference, received, item)[0].argmax()))
    return context[len(PROMPT) :]


def test_received_pages_give_the_tokens_of_a_plain_loop(reference, sent):
    assert decode(reference, sent.clone()) == reference.greedy(PROMPT, NUM_TOKENS)


@pytest.mark.parametrize("page", range(NUM_PAGES))
def test_one_wrong_page_changes_the_output(reference, sent, page):
    received = sent.clone()
    received[page] = sent[(page + 1) % NUM_PAGES]
    assert decode(reference, received) != reference.greedy(PROMPT, NUM_TOKENS)


@pytest.fixture
def fabric() -> MemoryFabric:
    return MemoryFabric()


@pytest.fixture
def received(reference) -> torch.Tensor:
    return empty_pages(reference)


@pytest.fixture
def reader(fabric: MemoryFabric, sent: torch.Tensor, received: torch.Tensor) -> Iterator[TransferThread]:
    """Reads from "source", which has `sent`, into `received`."""
    source = TransferThread(InMemoryAgent("source", fabric), [kv_region(sent)], "source")
    thread = TransferThread(InMemoryAgent("reader", fabric), [kv_region(received)], "reader")
    source.start()
    thread.start()
    thread.connect(source.offer()).result(5)
    yield thread
    thread.close()
    source.close()


def read_announced(reader: TransferThread, sent: torch.Tensor) -> ReadGroup:
    """Reads layers [1, 3) of pages 3, 1, 4 into pages 0, 2, 5, with checksums as prefill announces them."""
    group = ReadGroup(reader, "source", RegionKind.KV)
    theirs, ours, layers = [3, 1, 4], [0, 2, 5], (sent.shape[1], 1, 3)
    crc32 = [page_crc32(sent, page, 1, 3) for page in theirs]
    deadline = time.monotonic() + 5
    group.post(ours, layer_pages(ours, *layers), layer_pages(theirs, *layers), deadline, crc32, 2)
    return group


@pytest.mark.parametrize("disturbed_reads", [0, 1])
async def test_announced_checksums_fit_what_arrives_at_the_second_attempt_at_least(
    fabric, reader, sent, received, disturbed_reads
):
    fabric.corrupting["source"] = disturbed_reads
    await read_announced(reader, sent).completed()
    assert torch.equal(received[[0, 2, 5], 1:3], sent[[3, 1, 4], 1:3])
    assert not received[[1, 3, 4]].any()
    assert not received[:, [0, 3]].any()


async def test_a_flipped_bit_in_a_received_page_fails_the_fetch(fabric, reader, sent):
    fabric.corrupting["source"] = 2
    with pytest.raises(TransferFailed, match="checksum"):
        await read_announced(reader, sent).completed()
