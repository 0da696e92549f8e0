import numpy as np
import torch

from services.engine.sampling.logprobs import token_logprobs


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
