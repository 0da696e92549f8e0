import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from services.engine.sampling.row_logits import adjust_logits, token_logprobs
from services.engine.sampling.spec import SamplingSpec
from services.engine.sampling.state import SamplingState

VOCAB = 40
tokens = st.lists(st.integers(0, VOCAB - 1), max_size=30)


def reference(row, spec, prompt, outputs):
    """The documented order, one token at a time, in float64."""
    adjusted = []
    for token_id, logit in enumerate(row.tolist()):
        value = logit + dict(spec.logit_bias).get(token_id, 0.0)
        if len(outputs) < spec.min_tokens and token_id in spec.stop_token_ids:
            value = -np.inf
        if token_id in prompt or token_id in outputs:
            value = value / spec.repetition_penalty if value > 0 else value * spec.repetition_penalty
        count = outputs.count(token_id)
        value -= spec.frequency_penalty * count
        value -= spec.presence_penalty * (count > 0)
        adjusted.append(value)
    return adjusted


@settings(deadline=None)
@given(
    seed=st.integers(0, 1000),
    prompt=tokens,
    outputs=tokens,
    presence=st.floats(-2, 2),
    frequency=st.floats(-2, 2),
    repetition=st.floats(0.125, 2),
    bias=st.dictionaries(st.integers(0, VOCAB - 1), st.floats(-100, 100), max_size=5),
    stops=st.frozensets(st.integers(0, VOCAB - 1), max_size=3),
    min_tokens=st.integers(0, 40),
)
def test_logits_are_adjusted_as_documented(
    seed, prompt, outputs, presence, frequency, repetition, bias, stops, min_tokens
):
    spec = SamplingSpec(
        presence_penalty=presence,
        frequency_penalty=frequency,
        repetition_penalty=repetition,
        logit_bias=tuple(bias.items()),
        stop_token_ids=stops,
        min_tokens=min_tokens,
    )
    row = np.random.default_rng(seed).normal(size=VOCAB).astype(np.float32) * 3
    expected = reference(row, spec, prompt, outputs)
    adjust_logits(row, SamplingState(spec, 0, 0, prompt, outputs))
    np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-4)


def test_the_prompt_counts_for_repetition_only():
    row = np.ones(4, dtype=np.float32)
    spec = SamplingSpec(presence_penalty=1.0, frequency_penalty=1.0, repetition_penalty=2.0)
    adjust_logits(row, SamplingState(spec, 0, 0, [1, 1], [2, 2]))
    assert row.tolist() == [1.0, 0.5, 0.5 - 2.0 - 1.0, 1.0]


def test_repetition_pushes_negative_logits_down_too():
    row = np.array([-1.0, 1.0], dtype=np.float32)
    adjust_logits(row, SamplingState(SamplingSpec(repetition_penalty=2.0), 0, 0, [0, 1]))
    assert row.tolist() == [-2.0, 0.5]


def test_log_probabilities_are_those_of_log_softmax():
    row = (np.random.default_rng(1).normal(size=500) * 5).astype(np.float32)
    exact = torch.log_softmax(torch.from_numpy(row).double(), -1)
    logprob, top = token_logprobs(row, 123, 20)
    assert abs(logprob - exact[123].item()) < 1e-9
    values, ids = exact.topk(20)
    assert [token_id for token_id, _ in top] == ids.tolist()
    np.testing.assert_allclose([value for _, value in top], values.numpy(), atol=1e-9)


def test_alternatives_fall_in_probability_and_equals_rise_in_id():
    row = np.array([1.0, 3.0, 1.0, 3.0, 2.0], dtype=np.float32)
    _, top = token_logprobs(row, 0, 4)
    assert [token_id for token_id, _ in top] == [1, 3, 4, 0]


def test_no_alternatives_are_given_when_none_are_asked_for():
    assert token_logprobs(np.zeros(4, dtype=np.float32), 2, 0) == (-np.log(4), ())


def test_more_alternatives_than_tokens_gives_all():
    assert len(token_logprobs(np.zeros(4, dtype=np.float32), 2, 20)[1]) == 4


def test_large_logits_do_not_overflow():
    logprob, _ = token_logprobs(np.array([1e30, -1e30], dtype=np.float32), 0, 1)
    assert logprob == 0.0
