import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.engine.sampling.adjust import adjust_logits
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
