"""The model over pages whose format its weights do not choose."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
import torch

from services.engine.batch import PAGE_TOKENS
from services.engine.kv_cache.kv_format import BFLOAT16, FLOAT32, KvFormat
from services.engine.kv_cache.kv_pages import allocate_kv_pages, kv_region, layer_pages
from services.engine.kv_transfer.agents.region import RegionKind
from services.engine.kv_transfer.opening import TransferOpening
from services.engine.kv_transfer.reads.read_request import ReadOutcome, ReadRequest, ReadStatus
from services.engine.kv_transfer.transfer_thread import TransferThread
from services.engine.model.compiled_step import CompiledStep
from services.engine.model.text_model import TextModel
from services.engine.runner import ModelRunner
from tests.engine.int8_rows import INT8_ROWS
from tests.engine.text_models import batch_for, tiny_config, tiny_model
from tests.support.prompts import random_prompt

CONFIG = tiny_config(vocab_size=2048, kv_lora_rank=64, qk_rope_head_dim=16)
PROMPT = random_prompt(2 * PAGE_TOKENS + 33, "formats")
NUM_TOKENS = 40
"""The output fills the third page and begins a fourth."""
NUM_PAGES = 4
LAYERS = CONFIG.num_hidden_layers
FORMATS = pytest.mark.parametrize(
    "kv_format", [FLOAT32, BFLOAT16, INT8_ROWS], ids=lambda kv_format: kv_format.name
)


@pytest.fixture(scope="module")
def model() -> TextModel:
    return tiny_model(CONFIG)


def make_runner(model: TextModel, kv_format: KvFormat, num_pages: int = NUM_PAGES) -> ModelRunner:
    pages = allocate_kv_pages(num_pages, LAYERS, CONFIG.kv_width, kv_format)
    steps = CompiledStep.available(model, pages, kv_format)
    return ModelRunner(model, pages, 1, decode_steps=steps, kv_format=kv_format)


def prefill(runner: ModelRunner, pages: Sequence[int], *ends: int) -> torch.Tensor:
    """Computes the prompt in chunks up to each of `ends`; the logits of the last token."""
    start, logits = 0, torch.empty(0)
    for end in ends:
        logits = runner.forward(batch_for(runner, (PROMPT[start:end], start, pages, True)))[0]
        start = end
    return logits.clone()


def decode(runner: ModelRunner, pages: Sequence[int]) -> list[int]:
    """Computes the prompt's last token, and goes on from it."""
    context = list(PROMPT)
    for position in range(len(PROMPT) - 1, len(PROMPT) - 1 + NUM_TOKENS):
        item = (context[-1:], position, pages, True)
        context.append(int(runner.forward(batch_for(runner, item))[0].argmax()))
    return context[len(PROMPT) :]


def alone(model: TextModel, kv_format: KvFormat) -> list[int]:
    """The tokens of one process that computes everything."""
    runner = make_runner(model, kv_format)
    prefill(runner, range(NUM_PAGES), len(PROMPT) - 1)
    return decode(runner, range(NUM_PAGES))


@pytest.fixture
def opened() -> Iterator[list[TransferThread]]:
    """Threads to close at the end."""
    threads: list[TransferThread] = []
    yield threads
    for thread in reversed(threads):
        thread.close()


def read(reader: TransferThread, local: Sequence[int], remote: Sequence[int]) -> ReadOutcome:
    """The outcome, once no byte can land any more."""
    outcomes: list[ReadOutcome] = []
    settled = threading.Event()
    entries = [layer_pages(pages, LAYERS, 0, LAYERS) for pages in (local, remote)]
    deadline = time.monotonic() + 20
    reader.read(ReadRequest("source", RegionKind.KV, *entries, deadline, outcomes.append, settled.set))
    assert settled.wait(30)
    return outcomes[0]


@FORMATS
def test_prefill_a_read_over_nixl_and_decode_give_the_tokens_of_one_process(model, kv_format, opened):
    source, reader = make_runner(model, kv_format), make_runner(model, kv_format, NUM_PAGES + 1)
    for name, runner in (("source", source), ("reader", reader)):
        thread = TransferOpening(name, {}, "any")([kv_region(runner.kv_pages)])
        thread.start()
        opened.append(thread)
    prefill(source, [2, 0, 1], 100, len(PROMPT) - 1)
    opened[0].pin_serving()
    opened[1].connect(opened[0].offer()).result(30)
    outcome = read(opened[1], [4, 1, 3], [2, 0, 1])
    assert outcome.status is ReadStatus.DONE
    assert outcome.bytes == 3 * PAGE_TOKENS * kv_format.bytes_per_token(LAYERS, CONFIG.kv_width)
    tokens = decode(reader, [4, 1, 3, 0])
    assert tokens == alone(model, kv_format)
    assert len(set(tokens)) > NUM_TOKENS // 2, "an output too dull to tell right pages from wrong ones"


@FORMATS
@pytest.mark.parametrize("ends", [[1, 64, 65, len(PROMPT)], [130, len(PROMPT)]])
def test_in_deterministic_mode_chunks_change_no_bit_in_any_format(model, kv_format, ends):
    whole, cut = make_runner(model, kv_format), make_runner(model, kv_format)
    expected = prefill(whole, range(NUM_PAGES), len(PROMPT))
    assert torch.equal(prefill(cut, range(NUM_PAGES), *ends), expected)
    assert torch.equal(cut.kv_pages, whole.kv_pages)


@pytest.mark.parametrize(("kv_format", "bound"), [(BFLOAT16, 0.02), (INT8_ROWS, 0.1)])
@pytest.mark.parametrize("deterministic", [True, False])
def test_a_narrow_format_changes_logits_but_little(kv_format, bound, deterministic):
    """In both forms of attention: long chunks take the expanded one unless the mode is deterministic. All
    experts are taken: a choice among them would turn a small error into another expert.
    """
    every = dataclasses.replace(CONFIG, num_experts_per_tok=CONFIG.n_routed_experts)
    model = tiny_model(every, deterministic)
    exact = prefill(make_runner(model, FLOAT32), range(NUM_PAGES), len(PROMPT))
    error = prefill(make_runner(model, kv_format), range(NUM_PAGES), len(PROMPT)) - exact
    assert 0 < float(error.square().mean().sqrt() / exact.std()) < bound


def test_compiled_decode_steps_are_for_float32_pages_alone(model):
    for kv_format in (BFLOAT16, INT8_ROWS):
        pages = allocate_kv_pages(1, LAYERS, CONFIG.kv_width, kv_format)
        assert CompiledStep.available(model, pages, kv_format) is None
