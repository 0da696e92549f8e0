"""The text model as its callers see it."""

from __future__ import annotations

import pytest
import torch

from services.engine.model.text_model import TextModel
from tests.engine.text_models import TINY, every_logit, greedy, make_runner, random_weights, tiny_model, whole
from tests.support.batches import batch_of

PROMPT = [5, 90, 17, 3, 44, 8, 61] * 20


def test_given_embeddings_replace_those_of_their_tokens():
    weights = random_weights(TINY)
    runner = make_runner(TextModel(TINY, weights, deterministic=True), 2)
    expected = whole(runner, [5, 6, 7, 8], [0])
    rows = weights["model.embed_tokens.weight"][[6, 7]]
    item = ([5, 0, 0, 8], 0, [1], True, ((1, rows),))
    assert torch.equal(runner.forward(batch_of([item]))[0], expected)


def test_a_batch_may_ask_for_no_logits():
    runner = make_runner(tiny_model(), 1)
    logits = runner.forward(batch_of([([1, 2], 0, [0], False)]))
    assert (logits.shape, logits.dtype) == ((0, TINY.vocab_size), torch.float32)


@pytest.mark.parametrize("deterministic", [True, False])
def test_scored_rows_come_in_slices_with_the_logits_that_they_have_when_they_are_kept(deterministic):
    runner, parts = make_runner(tiny_model(deterministic=deterministic), 4), []
    expected = every_logit(runner, PROMPT, [0, 1, 2])
    other = ([9, 8], 0, [3], True)
    batch = batch_of([(PROMPT, 0, [0, 1, 2], False, (), 100), other])
    logits = runner.forward(batch, on_scored=lambda part: parts.append(part.clone()))
    assert [len(part) for part in parts] == [64, 36]
    found = torch.cat(parts)
    if deterministic:
        assert torch.equal(found, expected[-100:])
        assert torch.equal(logits, runner.forward(batch_of([other])))
    torch.testing.assert_close(found, expected[-100:], rtol=1e-4, atol=1e-4)


def test_a_changed_page_changes_what_follows():
    runner = make_runner(tiny_model(), 3)
    runner.forward(batch_of([(PROMPT[:128], 0, [0, 1, 2], False)]))
    last = batch_of([(PROMPT[128:], 128, [0, 1, 2], True)])
    before = runner.forward(last)
    runner.kv_pages[0, 1] += 0.1
    assert (runner.forward(last) - before).abs().max() > 1e-3


def test_later_tokens_do_not_reach_back():
    runner = make_runner(tiny_model(), 3)
    one = every_logit(runner, PROMPT, [0, 1, 2])
    other = every_logit(runner, [*PROMPT[:100], *reversed(PROMPT[100:])], [0, 1, 2])
    assert torch.equal(one[:100], other[:100])
    assert not torch.equal(one[101:], other[101:])


def test_greedy_decoding_goes_on_from_its_own_pages():
    runner = make_runner(tiny_model(), 4)
    tokens = greedy(runner, PROMPT[:60], [0, 1], 20)
    assert greedy(runner, PROMPT[:60] + tokens[:10], [2, 3], 10) == tokens[10:]
