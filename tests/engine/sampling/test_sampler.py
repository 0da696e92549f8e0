import time

import pytest
import torch

from services.common.errors import InternalError
from services.engine.sampling.sampler import SampledToken, Sampler, SamplingSpec, SamplingState

VOCAB = 300
GREEDY = SamplingSpec(temperature=0.0)
SPECS = [
    GREEDY,
    SamplingSpec(),
    SamplingSpec(temperature=0.7, top_p=0.9),
    SamplingSpec(top_k=20, min_p=0.02, logprobs=True, top_logprobs=5),
    SamplingSpec(presence_penalty=1.0, frequency_penalty=0.3, repetition_penalty=1.2),
    SamplingSpec(temperature=0.0, logit_bias=((5, 3.0),), logprobs=True, top_logprobs=2),
    SamplingSpec(temperature=1.3, min_tokens=8, stop_token_ids=frozenset([1, 2])),
]


def logits_of(rows: int, seed: int = 0, vocab: int = VOCAB) -> torch.Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * 2


def state_of(spec: SamplingSpec, seed: int = 1, outputs=(), choice: int = 0) -> SamplingState:
    return SamplingState(spec, seed, choice, [3, 4, 5], outputs)


def generate(spec: SamplingSpec, steps: int, seed: int = 1, choice: int = 0) -> list[int]:
    state = state_of(spec, seed, choice=choice)
    for step in range(steps):
        (outcome,) = Sampler(VOCAB).sample(logits_of(1, step), [state])
        state.append(outcome.token_id)
    return state.output_ids


def test_greedy_is_argmax_with_the_lowest_id_on_ties():
    logits = logits_of(50)
    logits[7, [250, 30, 31]] = 100.0
    outcomes = Sampler(VOCAB).sample(logits, [state_of(GREEDY)] * 50)
    assert [outcome.token_id for outcome in outcomes] == logits.argmax(-1).tolist()
    assert outcomes[7] == SampledToken(30)


def test_greedy_rows_that_need_adjusting_take_the_best_adjusted_token():
    logits = torch.zeros(3, VOCAB)
    logits[:, 10] = 1.0
    logits[:, 20] = 0.9
    specs = [
        SamplingSpec(temperature=0.0, presence_penalty=0.5),
        SamplingSpec(temperature=0.0, logit_bias=((33, 2.0),)),
        SamplingSpec(temperature=0.0, min_tokens=5, stop_token_ids=frozenset([10])),
    ]
    outcomes = Sampler(VOCAB).sample(logits, [state_of(spec, outputs=[10]) for spec in specs])
    assert [outcome.token_id for outcome in outcomes] == [20, 33, 20]


def test_a_stop_token_is_possible_again_from_min_tokens_on():
    logits = torch.zeros(1, VOCAB)
    logits[0, 10] = 50.0
    spec = SamplingSpec(min_tokens=2, stop_token_ids=frozenset([10]))
    ends = [
        Sampler(VOCAB).sample(logits, [state_of(spec, outputs=[0] * n)])[0].token_id == 10 for n in range(4)
    ]
    assert ends == [False, False, True, True]


def test_equal_seeds_give_equal_tokens_and_different_ones_do_not():
    first = generate(SamplingSpec(), 40)
    assert generate(SamplingSpec(), 40) == first
    assert generate(SamplingSpec(), 40, seed=2) != first
    assert generate(SamplingSpec(), 40, choice=1) != first


def test_greedy_tokens_do_not_depend_on_the_seed():
    assert generate(GREEDY, 20, seed=1) == generate(GREEDY, 20, seed=2)


@pytest.mark.parametrize("spec", SPECS, ids=range(len(SPECS)))
def test_a_choice_resumed_elsewhere_goes_on_as_if_it_had_never_stopped(spec):
    whole = generate(spec, 30)
    state = state_of(spec, outputs=whole[:13])
    for step in range(13, 30):
        (outcome,) = Sampler(VOCAB).sample(logits_of(1, step), [state])
        state.append(outcome.token_id)
    assert state.output_ids == whole


def test_a_row_is_bit_equal_whatever_else_is_in_the_batch():
    logits = logits_of(70)
    states = [state_of(SPECS[row % len(SPECS)], seed=row, outputs=range(row % 9)) for row in range(70)]
    together = Sampler(VOCAB).sample(logits, states)
    sampler = Sampler(VOCAB)
    assert [sampler.sample(logits[row : row + 1], [states[row]])[0] for row in range(70)] == together
    order = torch.randperm(70, generator=torch.Generator().manual_seed(1)).tolist()
    assert sampler.sample(logits[order], [states[row] for row in order]) == [together[row] for row in order]


def test_a_row_is_bit_equal_wherever_it_lies_in_memory():
    spec = SamplingSpec(top_p=0.9, logprobs=True, top_logprobs=5)
    logits = logits_of(4, vocab=VOCAB + 1)[:, 1:]
    states = [state_of(spec, seed=row) for row in range(4)]
    assert Sampler(VOCAB).sample(logits, states) == Sampler(VOCAB).sample(logits.contiguous(), states)


def test_log_probabilities_are_of_the_raw_distribution():
    spec = SamplingSpec(temperature=0.3, top_k=1, logit_bias=((5, 100.0),), logprobs=True, top_logprobs=3)
    logits = logits_of(1)
    exact = torch.log_softmax(logits[0].double(), -1)
    (outcome,) = Sampler(VOCAB).sample(logits, [state_of(spec)])
    assert outcome.token_id == 5
    assert outcome.logprob == pytest.approx(exact[5].item(), abs=1e-9)
    assert [token_id for token_id, _ in outcome.top] == exact.topk(3).indices.tolist()


def test_log_probabilities_come_only_when_asked_for():
    logits = logits_of(2)
    plain, asked = SamplingSpec(top_logprobs=3), SamplingSpec(logprobs=True)
    first, second = Sampler(VOCAB).sample(logits, [state_of(plain), state_of(asked)])
    assert (first.logprob, first.top, second.top) == (None, (), ())
    assert second.logprob < 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("spec", [GREEDY, SamplingSpec()])
def test_a_broken_row_fails_alone_and_by_number(bad, spec):
    logits = logits_of(3)
    logits[1, 77] = bad
    states = [state_of(spec, seed=row) for row in range(3)]
    outcomes = Sampler(VOCAB).sample(logits, states)
    assert isinstance(outcomes[1], InternalError)
    assert "row 1" in outcomes[1].message
    whole = Sampler(VOCAB).sample(logits_of(3), states)
    assert (outcomes[0], outcomes[2]) == (whole[0], whole[2])


def test_a_row_with_nothing_left_to_choose_fails_alone():
    spec = SamplingSpec(min_tokens=1, stop_token_ids=frozenset(range(VOCAB)))
    first, second = Sampler(VOCAB).sample(logits_of(2), [state_of(spec), state_of(GREEDY)])
    assert isinstance(first, InternalError)
    assert isinstance(second, SampledToken)
    (outcome,) = Sampler(VOCAB).sample(torch.full((1, VOCAB), -torch.inf), [state_of(GREEDY)])
    assert isinstance(outcome, InternalError)


def test_logits_and_states_are_left_alone():
    logits = logits_of(len(SPECS))
    before = logits.clone()
    states = [state_of(spec, outputs=[1, 2]) for spec in SPECS]
    Sampler(VOCAB).sample(logits, states)
    assert torch.equal(logits, before)
    assert {tuple(state.output_ids) for state in states} == {(1, 2)}


def test_no_rows_give_no_tokens_and_wrong_shapes_are_a_defect():
    sampler = Sampler(VOCAB)
    assert sampler.sample(torch.empty(0, VOCAB), []) == []
    with pytest.raises(InternalError, match=r"\(2, 300\), not \(1, 300\)"):
        sampler.sample(logits_of(2), [state_of(GREEDY)])
    with pytest.raises(InternalError):
        sampler.sample(logits_of(1, vocab=VOCAB - 1), [state_of(GREEDY)])


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("spec", "limit_s"), [(GREEDY, 0.05), (SamplingSpec(top_p=0.95), 0.4)])
def test_two_hundred_rows_of_the_small_vocabulary_are_sampled_together_not_one_by_one(spec, limit_s):
    logits = logits_of(200, vocab=2304)
    states = [state_of(spec, seed=row) for row in range(200)]
    sampler = Sampler(2304)
    seconds = []
    for _ in range(10):
        # Of this thread's own time, so that a busy machine does not count.
        start = time.thread_time()
        sampler.sample(logits, states)
        seconds.append(time.thread_time() - start)
    print(f"200 rows in {1000 * min(seconds):.1f} ms")
    assert min(seconds) < limit_s
