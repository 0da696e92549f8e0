"""Others' kernels are called as they document it: stand-ins compute from these layouts in plain torch."""

from __future__ import annotations

import sys
from itertools import pairwise
from types import ModuleType, SimpleNamespace

import pytest
import torch

from kernels.benchmarks import others, sglang_kernels
from kernels.benchmarks.inputs import DecodeInputs, ExpertInputs, PackedExperts, choose_experts, normal
from kernels.benchmarks.sizes import Sizes
from kernels.expert_alignment import Alignment
from kernels.reference import expert_alignment as alignment_reference
from kernels.reference import experts as expert_reference
from kernels.reference import mla_decode as decode_reference

CPU = torch.device("cpu")
SIZES = Sizes.tiny()
SCALE = 0.1


@pytest.fixture(autouse=True)
def nothing_remembered():
    others.missing.cache_clear()
    yield
    others.missing.cache_clear()


def install(monkeypatch, **members):
    """FlashMLA with these members."""
    module = ModuleType("flash_mla")
    module.__dict__.update(members)
    monkeypatch.setitem(sys.modules, "flash_mla", module)


def install_sglang(monkeypatch, **members):
    """Its modules, each with all these members."""
    monkeypatch.setattr(sglang_kernels, "load", lambda name: SimpleNamespace(**members))


def decode_inputs():
    pages = normal(8, 64, SIZES.width, device=CPU)
    tables = torch.randperm(8).to(torch.int32).view(2, 2, 2)
    query = normal(2, 4, SIZES.width, device=CPU)
    return DecodeInputs(query, pages, tables, torch.tensor([70, 128], dtype=torch.int32), SCALE, SIZES.latent)


def expected(inputs, copy):
    table = inputs.tables[copy]
    return decode_reference.mla_decode(
        inputs.query.float(), inputs.pages, table, inputs.context_lens, SCALE, SIZES.latent
    )


def attend(query, keys, scale):
    """`[H, latent]` of one sequence, whose rows of the cache are `keys`."""
    weights = torch.softmax(query.float() @ keys.float().T * scale, dim=-1)
    return weights @ keys[:, : SIZES.latent].float()


def sglang_decode(
    q, k_buffer, v_buffer, o, indptr, indices, logits, lse, splits, most, scale, k_scale, v_scale, has_mla
):
    assert v_buffer.shape == (*k_buffer.shape[:2], SIZES.latent)
    assert logits.shape == (*q.shape[:2], most, SIZES.latent)
    assert lse.shape == logits.shape[:3]
    assert splits.tolist() == [most] * len(q)
    assert (k_scale, v_scale, has_mla) == (1.0, 1.0, True)
    for index, (start, end) in enumerate(pairwise(indptr.tolist())):
        o[index] = attend(q[index], k_buffer[indices[start:end], 0], scale)


def flash_mla_decode(q, k_cache, page_table, cache_seqlens, head_dim_v, plan, splits, softmax_scale):
    assert (plan, splits, head_dim_v) == ("plan", None, SIZES.latent)
    assert k_cache.shape[1:3] == (64, 1)
    rows = [
        k_cache[table].flatten(0, 2)[:length] for table, length in zip(page_table, cache_seqlens, strict=True)
    ]
    out = torch.stack([attend(each[0], keys, softmax_scale) for each, keys in zip(q, rows, strict=True)])
    return out.unsqueeze(1), None


def split_flash_mla_decode(
    q,
    k_cache,
    page_table,
    cache_seqlens,
    head_dim_v,
    plan,
    splits=None,
    softmax_scale=None,
    use_legacy=False,
):
    """As sgl-flash-mla 1.0.0 has it."""
    assert use_legacy, "Dense MLA decoding was removed from the current kernels"
    return flash_mla_decode(q, k_cache, page_table, cache_seqlens, head_dim_v, plan, splits, softmax_scale)


def check_decode(run, inputs):
    for copy in range(len(inputs.tables)):
        (found,) = run(copy)
        torch.testing.assert_close(found.float(), expected(inputs, copy), rtol=0.02, atol=0.02)


def test_what_is_not_installed_is_said_and_gives_no_rows():
    said = others.describe()
    assert "sglang: not run: ModuleNotFoundError(\"No module named 'sglang'\")" in said
    assert "flash_mla: not run: ModuleNotFoundError(\"No module named 'flash_mla'\")" in said
    assert list(others.mla_decode(decode_inputs())) == []


def test_a_broken_installation_is_as_good_as_none(monkeypatch, tmp_path):
    (tmp_path / "flash_mla.py").write_text("raise RuntimeError('no CUDA driver')")
    monkeypatch.syspath_prepend(tmp_path)
    assert "flash_mla: not run: RuntimeError('no CUDA driver')" in others.describe()
    assert list(others.mla_decode(decode_inputs())) == []


def test_sglang_attends_over_the_rows_of_each_sequence_and_no_others(monkeypatch):
    install_sglang(monkeypatch, decode_attention_fwd=sglang_decode)
    inputs = decode_inputs()
    runs = dict(others.mla_decode(inputs))
    assert list(runs) == ["sglang, 8 splits", "sglang, 32 splits"]
    for run in runs.values():
        check_decode(run, inputs)


@pytest.mark.parametrize("decode", [flash_mla_decode, split_flash_mla_decode])
def test_flash_mla_of_either_wheel_gets_our_pages_and_tables_as_they_are(monkeypatch, decode):
    plan = SimpleNamespace(calls=0)

    def get_mla_metadata(lengths, heads, kv_heads):
        plan.calls += 1
        assert (heads, kv_heads) == (4, 1)
        return "plan", None

    install(monkeypatch, get_mla_metadata=get_mla_metadata, flash_mla_with_kvcache=decode)
    inputs = decode_inputs()
    ((by, run),) = others.mla_decode(inputs)
    check_decode(run, inputs)
    assert (by, plan.calls) == ("flash_mla", 1)


def align(experts, first, count, block):
    pairs, owners = alignment_reference.align_experts(experts, first, count, block)
    filled = torch.tensor([len(owners)], dtype=torch.int32)
    # What lies behind the last block is undefined, and not to be read.
    return Alignment(torch.tensor([*pairs, *[10**6] * block]), torch.tensor([*owners, 10**6]), filled, block)


def sglang_product(
    x,
    packed,
    _b,
    to,
    _s,
    scales,
    _z,
    weights,
    _e,
    pairs,
    owners,
    padded,
    last,
    top_k,
    config,
    block_shape,
    **kinds,
):
    """Block by block, as the kernel goes."""
    assert kinds["use_int4_w4a16"]
    assert kinds["compute_type"].name == "bf16"
    assert block_shape == [0, 32]
    assert config["BLOCK_SIZE_K"] % 32 == 0
    nibbles = torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2).float() - 8
    matrices = nibbles * scales.float().repeat_interleave(32, dim=-1)
    size, out = config["BLOCK_SIZE_M"], to.view(-1, to.shape[-1])
    for block in range(int(padded) // size):
        of_block = [pair for pair in pairs[block * size :][:size].tolist() if pair < len(out)]
        for pair in of_block:
            result = matrices[owners[block]] @ x[pair // top_k].float()
            out[pair] = result * (weights.flatten()[pair] if last else 1.0)


def sglang_gate(gated, inner, config, experts):
    first, second = gated.float().chunk(2, dim=-1)
    inner.copy_(torch.nn.functional.silu(first) * second)


def test_sglang_gets_int4_experts_in_bytes_that_mean_the_same(monkeypatch):
    gate_up = PackedExperts(4, 2, 64, SIZES.hidden, CPU)
    down = PackedExperts(4, 1, SIZES.hidden, 64, CPU)
    monkeypatch.setattr(sglang_kernels, "align_experts", align)
    install_sglang(
        monkeypatch,
        invoke_fused_moe_kernel=sglang_product,
        act_and_mul_triton=sglang_gate,
        moe_sum_reduce_triton=lambda x, out, factor: out.copy_(x.float().sum(1) * factor),
    )
    experts = [choose_experts(3, SIZES, CPU) for _ in range(2)]
    inputs = ExpertInputs(normal(3, SIZES.hidden, device=CPU), experts, torch.rand(3, SIZES.top_k))
    runs = dict(others.int4_experts(inputs, gate_up, down))
    assert len(runs) == 6
    for run in runs.values():
        (found,) = run(1)
        wanted = expert_reference.apply_experts(inputs.x.float(), experts[1], inputs.weights, gate_up, down)
        torch.testing.assert_close(found.float(), wanted, rtol=0.05, atol=0.05)


def test_sglang_takes_small_blocks_for_a_decode_step_and_large_ones_for_a_prompt():
    step, prompt = (sglang_kernels.tiles(tokens, 8, 384) for tokens in (256, 8192))
    assert (len(step), {tile[0] for tile in step}) == (6, {16})
    assert min(tile[0] for tile in prompt) == 64


def test_what_cannot_be_prepared_fails_when_it_is_run_and_not_before(monkeypatch):
    install_sglang(monkeypatch)
    (_, run), _ = others.mla_decode(decode_inputs())
    with pytest.raises(AttributeError, match="decode_attention_fwd"):
        run(0)
