"""Others' kernels are called as they document it: stand-ins compute from these layouts in plain torch."""

from __future__ import annotations

import sys
from itertools import pairwise
from types import ModuleType, SimpleNamespace

import pytest
import torch

from kernels.benchmarks import others
from kernels.benchmarks.inputs import DecodeInputs, ExpertInputs, PackedExperts, choose_experts, normal
from kernels.benchmarks.sizes import Sizes
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


def install(monkeypatch, name, **members):
    module = ModuleType(name)
    module.__dict__.update(members)
    module.__path__ = []
    monkeypatch.setitem(sys.modules, name, module)


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


def flash_mla_decode(q, k_cache, block_table, cache_seqlens, head_dim_v, plan, splits, softmax_scale):
    assert (plan, splits, head_dim_v) == ("plan", None, SIZES.latent)
    assert k_cache.shape[1:3] == (64, 1)
    rows = [
        k_cache[table].flatten(0, 2)[:length]
        for table, length in zip(block_table, cache_seqlens, strict=True)
    ]
    out = torch.stack([attend(each[0], keys, softmax_scale) for each, keys in zip(q, rows, strict=True)])
    return out.unsqueeze(1), None


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
    install(monkeypatch, "sglang")
    install(monkeypatch, "sglang.kernels")
    install(monkeypatch, "sglang.kernels.ops.attention.decode_attention", decode_attention_fwd=sglang_decode)
    inputs = decode_inputs()
    runs = dict(others.mla_decode(inputs))
    assert list(runs) == ["sglang, 8 splits", "sglang, 32 splits"]
    for run in runs.values():
        check_decode(run, inputs)


def test_flash_mla_gets_our_pages_and_tables_as_they_are(monkeypatch):
    plan = SimpleNamespace(calls=0)

    def get_mla_metadata(lengths, heads, kv_heads):
        plan.calls += 1
        assert (heads, kv_heads) == (4, 1)
        return "plan", None

    install(
        monkeypatch, "flash_mla", get_mla_metadata=get_mla_metadata, flash_mla_with_kvcache=flash_mla_decode
    )
    inputs = decode_inputs()
    ((by, run),) = others.mla_decode(inputs)
    check_decode(run, inputs)
    assert (by, plan.calls) == ("flash_mla", 1)


def test_sglang_gets_int4_experts_in_bytes_that_mean_the_same(monkeypatch):
    gate_up = PackedExperts(4, 2, 64, SIZES.hidden, CPU)
    down = PackedExperts(4, 1, SIZES.hidden, 64, CPU)

    def product(x, packed, _b, to, _s, scales, _z, weights, experts, *order_and_rest, block_shape, **kinds):
        *_, last, top_k, config = order_and_rest
        assert kinds["use_int4_w4a16"]
        assert block_shape == [0, 32]
        assert config["BLOCK_SIZE_K"] % 32 == 0
        nibbles = torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2).float() - 8
        matrices = nibbles * scales.float().repeat_interleave(32, dim=-1)
        rows = x.float().repeat_interleave(top_k, dim=0)
        out = torch.einsum("rk,rnk->rn", rows, matrices[experts.flatten().long()])
        to.view(out.shape).copy_(out * weights.flatten()[:, None] if last else out)

    def gate(gated, inner, config, experts):
        first, second = gated.float().chunk(2, dim=-1)
        inner.copy_(torch.nn.functional.silu(first) * second)

    install(monkeypatch, "sglang")
    install(monkeypatch, "sglang.kernels")
    install(
        monkeypatch,
        "sglang.kernels.ops.moe.fused_moe_triton_kernels",
        invoke_fused_moe_kernel=product,
        act_and_mul_triton=gate,
        moe_sum_reduce_triton=lambda x, out, factor: out.copy_(x.float().sum(1) * factor),
    )
    install(
        monkeypatch,
        "sglang.srt.layers.moe.moe_runner.triton_utils.moe_align_block_size",
        moe_align_block_size=lambda experts, block, count: (experts, experts, experts),
    )
    experts = [choose_experts(3, SIZES, CPU) for _ in range(2)]
    inputs = ExpertInputs(normal(3, SIZES.hidden, device=CPU), experts, torch.rand(3, SIZES.top_k))
    runs = list(others.int4_experts(inputs, gate_up, down))
    assert len(runs) == 2
    for _, run in runs:
        (found,) = run(1)
        wanted = expert_reference.apply_experts(inputs.x.float(), experts[1], inputs.weights, gate_up, down)
        torch.testing.assert_close(found.float(), wanted, rtol=0.05, atol=0.05)


def test_what_cannot_be_prepared_fails_when_it_is_run_and_not_before(monkeypatch):
    install(monkeypatch, "sglang")
    install(monkeypatch, "sglang.kernels")
    (_, run), _ = others.mla_decode(decode_inputs())
    with pytest.raises(ModuleNotFoundError, match="sglang"):
        run(0)
