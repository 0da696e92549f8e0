"""Routed experts with int4 and plain weights."""

from __future__ import annotations

import pytest
import torch

from kernels.expert_weights import ExpertMatrices
from kernels.experts import RoutedExperts, choose_block_pairs
from kernels.reference import experts as reference
from services.engine.weights import int4

# Two tiles of outputs in the first product, two of inputs in the second.
EXPERTS, HIDDEN, WIDTH, TOP_K = 4, 64, 128, 2


def make_int4(outputs, inputs, parts, seed):
    generator = torch.Generator().manual_seed(seed)
    words = (EXPERTS, parts, outputs, inputs // 8)
    packed = torch.randint(-(2**31), 2**31, words, generator=generator).to(torch.int32)
    scales = torch.rand(EXPERTS, parts, outputs, inputs // 32, generator=generator).bfloat16() * 0.05
    return packed, scales


def make_weights(seed=0):
    """Packed weights and scales of gate and up, then of down."""
    return make_int4(WIDTH, HIDDEN, 2, seed), make_int4(HIDDEN, WIDTH, 1, seed + 1)


def make_batch(tokens, dtype=torch.float32, num_experts=EXPERTS, seed=5):
    """Rows, experts, weights."""
    generator = torch.Generator().manual_seed(seed)
    chosen = [torch.randperm(num_experts, generator=generator)[:TOP_K] for _ in range(tokens)]
    x = torch.randn(tokens, HIDDEN, generator=generator).to(dtype)
    return x, torch.stack(chosen).to(torch.int32), torch.rand(tokens, TOP_K, generator=generator)


def apply_int4(gate_up, down, batch, deterministic=True, shared=None, first_expert=0):
    matrices = ExpertMatrices.int4(*gate_up), ExpertMatrices.int4(*down)
    return RoutedExperts(*matrices, deterministic, first_expert)(*batch, shared)


def apply_plain(gate_up, down, batch, deterministic=True):
    matrices = ExpertMatrices.plain(gate_up), ExpertMatrices.plain(down)
    return RoutedExperts(*matrices, deterministic)(*batch)


def expected(gate_up, down, batch, shared=None):
    x, chosen, weights = batch
    plain = [reference.dequantise(packed, scales.float()) for packed, scales in (gate_up, down)]
    return reference.apply_experts(x.double(), chosen, weights, *plain, shared)


def check_near(out, wanted):
    torch.testing.assert_close(out.double(), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


def test_the_reference_reads_the_published_format_as_the_engine_does():
    packed, scales = make_int4(64, 64, 1, 3)
    result = torch.empty(64, 64, dtype=torch.bfloat16)
    int4.dequantise(packed[0, 0], scales[0, 0], result)
    assert torch.equal(reference.dequantise(packed[0, 0], scales[0, 0]), result)


@pytest.mark.parametrize(("tokens", "deterministic"), [(1, True), (40, True), (40, False)])
def test_int4_experts_match_the_reference(interpreter, tokens, deterministic):
    gate_up, down = make_weights()
    batch = make_batch(tokens)
    check_near(interpreter(apply_int4, gate_up, down, batch, deterministic), expected(gate_up, down, batch))


def test_plain_experts_match_the_reference(interpreter):
    gate_up, down = (reference.dequantise(packed, scales) for packed, scales in make_weights())
    batch = make_batch(6)
    x, chosen, weights = batch
    wanted = reference.apply_experts(x.double(), chosen, weights, gate_up, down)
    check_near(interpreter(apply_plain, gate_up, down, batch), wanted)


def test_bfloat16_rows_match_the_reference(interpreter):
    gate_up, down = make_weights()
    batch = make_batch(3, torch.bfloat16)
    out, wanted = interpreter(apply_int4, gate_up, down, batch), expected(gate_up, down, batch)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), wanted, rtol=2**-5, atol=2**-5 * float(wanted.abs().max()))


def test_the_shared_experts_result_is_added(interpreter):
    gate_up, down = make_weights()
    batch, shared = make_batch(3), torch.randn(3, HIDDEN)
    out = interpreter(apply_int4, gate_up, down, batch, True, shared)
    check_near(out, expected(gate_up, down, batch, shared))


def test_only_this_ranks_experts_take_part(interpreter):
    gate_up, down = make_weights()
    x, chosen, weights = make_batch(6, num_experts=2 * EXPERTS)
    out = interpreter(apply_int4, gate_up, down, (x, chosen, weights), True, None, EXPERTS)
    check_near(out, expected(gate_up, down, (x, chosen - EXPERTS, weights)))


def test_in_deterministic_mode_a_tokens_bits_do_not_depend_on_the_batch(interpreter):
    gate_up, down = make_weights()
    x, chosen, weights = make_batch(20)
    together = interpreter(apply_int4, gate_up, down, (x, chosen, weights))
    alone = interpreter(apply_int4, gate_up, down, (x[7:8], chosen[7:8], weights[7:8]))
    assert torch.equal(together[7:8], alone)


def test_blocks_grow_with_the_pairs_of_an_expert_unless_deterministic():
    assert [choose_block_pairs(n * 384, 384, False) for n in (1, 16, 17, 1000)] == [16, 16, 32, 64]
    assert choose_block_pairs(10**6, 384, True) == 16


def test_matrices_that_are_not_made_of_tiles_are_an_error():
    with pytest.raises(ValueError, match="96 x 64 is not made of tiles"):
        ExpertMatrices.int4(torch.zeros(1, 1, 96, 8, dtype=torch.int32), torch.zeros(1, 1, 96, 2))


def test_scales_of_another_shape_are_an_error():
    with pytest.raises(ValueError, match=r"scales \(1, 1, 64, 1\) do not fit 2 groups"):
        ExpertMatrices.int4(torch.zeros(1, 1, 64, 8, dtype=torch.int32), torch.zeros(1, 1, 64, 1))
