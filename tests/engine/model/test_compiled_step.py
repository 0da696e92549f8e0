"""A decode step in one call against the same layer by layer."""

from __future__ import annotations

import pytest
import torch

from services.engine.kv_cache.kv_format import BFLOAT16, FLOAT32
from services.engine.model.compiled_step import CompiledStep
from services.engine.model.layers.row_product import PlainProducts
from services.engine.model.text_model import TextModel
from services.engine.native import library as native
from services.engine.runner import ModelRunner
from tests.engine.text_models import TINY, make_runner, random_weights, tiny_config, tiny_model
from tests.support.batches import batch_of

LENGTHS = (1, 63, 64, 65, 200, 5, 130)
PAGES = 4
"""Pages of each sequence."""

CONFIGS = {
    "odd widths": TINY,
    "wide": tiny_config(hidden_size=300, intermediate_size=520, moe_intermediate_size=130, vocab_size=1000),
    "dense only": tiny_config(first_k_dense_replace=3),
    "mixtures only": tiny_config(first_k_dense_replace=0, n_routed_experts=40, num_experts_per_tok=8),
    "weights as they are": tiny_config(norm_topk_prob=False),
    "one head": tiny_config(num_attention_heads=1),
    "nine heads": tiny_config(num_attention_heads=9, qk_nope_head_dim=32, v_head_dim=48),
}


@pytest.fixture(params=[1, 2, 5], autouse=True)
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def runners(model):
    """The same pages, garbage in them, twice: one steps layer by layer, one at once."""
    plain = make_runner(model, PAGES * len(LENGTHS))
    pages = plain.kv_pages.clone()
    steps = CompiledStep.available(model, pages, FLOAT32)
    if steps is None:
        pytest.skip("nothing can be compiled here: see the log")
    return plain, ModelRunner(model, pages, 1, decode_steps=steps)


def prompts(vocab, lengths):
    draw = torch.Generator().manual_seed(7)
    return [torch.randint(vocab, (length,), generator=draw).tolist() for length in lengths]


def items(tokens, starts, wants_logits=True):
    """One for each sequence, whose pages lie in no order."""
    tables = [[row + len(LENGTHS) * page for page in range(PAGES)] for row in range(len(LENGTHS))]
    return [
        (new, start, pages, wants_logits) for new, start, pages in zip(tokens, starts, tables, strict=False)
    ]


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_steps_have_the_bits_of_layers_one_by_one(config, deterministic):
    plain, stepping = runners(tiny_model(config, deterministic))
    for count in (1, 2, len(LENGTHS)):
        given = items(prompts(config.vocab_size, LENGTHS), [0] * count, wants_logits=False)
        for runner in (plain, stepping):
            runner.forward(batch_of(given))
        tokens = [[count]] * count
        for ahead in range(3):
            batch = batch_of(items(tokens, [length + ahead for length in LENGTHS[:count]]))
            expected, found = plain.forward(batch), stepping.forward(batch)
            assert torch.equal(found, expected)
            assert torch.equal(stepping.kv_pages, plain.kv_pages)
            tokens = expected.argmax(-1, keepdim=True).tolist()


def test_more_rows_than_are_gathered_at_a_time_have_the_bits_of_each_alone():
    model = tiny_model(tiny_config(n_routed_experts=3, num_experts_per_tok=2))
    pages = torch.randn(200, 3, 64, TINY.kv_width)
    steps = CompiledStep.available(model, pages, FLOAT32)
    if steps is None:
        pytest.skip("nothing can be compiled here: see the log")
    runner = ModelRunner(model, pages, 1, decode_steps=steps)
    single = [([row % TINY.vocab_size], 20, [row], True) for row in range(200)]
    together = runner.forward(batch_of(single))
    for row in (0, 63, 64, 128, 199):
        assert torch.equal(runner.forward(batch_of([single[row]]))[0], together[row])


def test_loops_compiled_for_other_machines_compute_the_same(made_before):
    loops = native.library.__wrapped__()
    if loops is None:
        pytest.skip("they do not run on this processor")
    plain, _ = runners(tiny_model())
    pages = plain.kv_pages.clone()
    stepping = ModelRunner(plain.model, pages, 1, decode_steps=CompiledStep(loops, plain.model, pages))
    batch = batch_of(items([[1], [2], [3]], [200, 0, 63]))
    torch.testing.assert_close(stepping.forward(batch), plain.forward(batch), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pages, plain.kv_pages, rtol=1e-4, atol=1e-4)


def test_only_decode_steps_are_taken():
    _, stepping = runners(tiny_model())
    taken = stepping._decode_steps.takes
    step = items([[1], [2]], [5, 9])
    assert taken(batch_of(step))
    assert not taken(batch_of([*step, ([1, 2], 0, [6], True)]))
    assert not taken(batch_of([*step, ([1], 0, [6], False)]))
    embedded = ([1], 0, [6], True, ((0, torch.zeros(1, TINY.hidden_size)),))
    assert not taken(batch_of([*step, embedded]))


def test_a_token_that_there_is_not_is_an_error_and_nothing_is_read_for_it():
    _, stepping = runners(tiny_model())
    with pytest.raises(IndexError):
        stepping.forward(batch_of(items([[TINY.vocab_size]], [0])))


def test_other_models_and_pages_are_left_to_them():
    model = tiny_model()
    pages = torch.zeros(1, 3, 64, TINY.kv_width)
    assert CompiledStep.available(model, pages.bfloat16(), BFLOAT16) is None
    plain = TextModel(TINY, random_weights(TINY), deterministic=False, products=PlainProducts())
    assert CompiledStep.available(plain, pages, FLOAT32) is None
