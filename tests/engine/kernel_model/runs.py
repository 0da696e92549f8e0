"""What the tests run in the interpreter's process: the model on kernels, on CPU tensors."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, distributed

from services.common.errors import InternalError
from services.engine.kernel_model.decode_graphs import DecodeGraphs
from services.engine.kernel_model.draw import draw_on_device
from services.engine.kernel_model.text_model import KernelTextModel
from services.engine.kv_cache.kv_format import FLOAT32
from services.engine.loading.for_worker import load_for
from services.engine.loading.text import load_kernel_text_model
from services.engine.model.attention.page_views import PageViews
from services.engine.model.tensor_group import DistributedGroup
from services.engine.ranks.rank_plan import RankPlan
from services.engine.runner import ModelRunner
from services.engine.sampling.sampler import SampledToken, Sampler
from services.engine.sampling.state import SamplingState
from services.engine.weights.int4 import dequantise
from tests.engine.text_models import PAGE_TOKENS, random_weights, tiny_config
from tests.support.address_graph import AddressGraph
from tests.support.batches import NewTokens, batch_of
from tests.support.rank_groups import runner_of, start_ranks

# Kernels take vectors of powers of two, and experts made of tiles of 64 x 64.
CONFIG = tiny_config(
    hidden_size=64,
    num_hidden_layers=2,
    intermediate_size=64,
    moe_intermediate_size=64,
    num_attention_heads=2,
    q_lora_rank=32,
    kv_lora_rank=64,
    qk_nope_head_dim=16,
    qk_rope_head_dim=16,
    v_head_dim=16,
    n_routed_experts=4,
    num_experts_per_tok=2,
)


def item_of(parts) -> NewTokens:
    """An item of token_ids, start, pages and perhaps embeddings, with logits."""
    token_ids, start, pages, *embeds = parts
    return (token_ids, start, pages, True, *embeds)


def make_pages(count: int) -> Tensor:
    """Finite garbage, as in a used pool."""
    shape = (count, CONFIG.num_hidden_layers, PAGE_TOKENS, CONFIG.kv_width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(99))


def packed_experts(seed: int = 3) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights with packed experts, and the same with these dequantised."""
    generator = torch.Generator().manual_seed(seed)
    packed, plain = {}, {}
    for name, value in random_weights(CONFIG).items():
        if ".mlp.experts." not in name:
            packed[name] = plain[name] = value
            continue
        rows, inputs = value.shape
        words = torch.randint(-(2**31), 2**31, (rows, inputs // 8), generator=generator).to(torch.int32)
        scale = (torch.rand(rows, inputs // 32, generator=generator) * 0.05).bfloat16()
        packed[f"{name}_packed"], packed[f"{name}_scale"] = words, scale
        plain[name] = dequantise(words, scale, torch.empty(rows, inputs))
    return packed, plain


def scored_and_kept(weights, deterministic, token_ids, pages) -> tuple[Tensor, Tensor]:
    """Logits of all tokens but the last, scored in one pass beside another prompt, and kept in the other."""
    model = KernelTextModel(CONFIG, weights, deterministic)
    kv_pages, parts = make_pages(max(pages) + 2), []
    views = PageViews(kv_pages, CONFIG.kv_lora_rank)
    batch = batch_of([(token_ids, 0, pages, False)])
    kept = model.forward(replace(batch, logits_rows=torch.arange(len(token_ids) - 1)), kv_pages, views)
    scored = batch_of(
        [(token_ids[:-1], 0, pages, False, (), len(token_ids) - 1), ([3], 0, [max(pages) + 1], True)]
    )
    model.forward(scored, kv_pages, views, on_scored=lambda part: parts.append(part.clone()))
    return torch.cat(parts), kept


def logits_of_chunks(weights, deterministic, token_ids, chunks, pages) -> tuple[Tensor, Tensor]:
    """The last logits of each chunk of a prompt `[chunks, vocab]`, and the pages then."""
    model = KernelTextModel(CONFIG, weights, deterministic)
    kv_pages = make_pages(max(pages) + 1)
    views = PageViews(kv_pages, CONFIG.kv_lora_rank)
    found, start = [], 0
    for count in chunks:
        batch = batch_of([(token_ids[start : start + count], start, pages, True)])
        found.append(model.forward(batch, kv_pages, views)[0])
        start += count
    return torch.stack(found), kv_pages[list(pages)]


def logits_of_batches(weights, deterministic, batches, num_pages, expand_from=None) -> list[Tensor]:
    """Logits of batches of (token_ids, start, pages), one after the other over the same pages."""
    model = KernelTextModel(CONFIG, weights, deterministic)
    if expand_from is not None:
        model._expand_from = expand_from
    kv_pages = make_pages(num_pages)
    views = PageViews(kv_pages, CONFIG.kv_lora_rank)
    return [model.forward(batch_of(list(map(item_of, batch))), kv_pages, views) for batch in batches]


def logits_of_graphs(weights, deterministic, batches, num_pages) -> list[Tensor]:
    """The same through recorded decode steps where they take the batch."""
    model = KernelTextModel(CONFIG, weights, deterministic)
    kv_pages = make_pages(num_pages)
    views = PageViews(kv_pages, CONFIG.kv_lora_rank)
    graphs = DecodeGraphs(model, kv_pages, AddressGraph, most_rows=3)
    found = []
    for batch in batches:
        built = batch_of(list(map(item_of, batch)))
        found.append(
            graphs.run(built).clone() if graphs.takes(built) else model.forward(built, kv_pages, views)
        )
    return found


def announcements(weights) -> tuple[list[int], tuple[int, ...]]:
    """The layers that a batch without logits announces, and the shape of these."""
    model, kv_pages = KernelTextModel(CONFIG, weights, False), make_pages(1)
    announced: list[int] = []
    batch = batch_of([([1, 2], 0, [0], False)])
    logits = model.forward(batch, kv_pages, PageViews(kv_pages, CONFIG.kv_lora_rank), announced.append)
    return announced, tuple(logits.shape)


def logits_of_checkpoint(directory, token_ids) -> Tensor:
    """The last logits of a prompt, from a checkpoint on disk."""
    model = load_kernel_text_model(directory, True, torch.float32, "cpu")
    config = model.config
    kv_pages = torch.zeros(1, config.num_hidden_layers, PAGE_TOKENS, config.kv_width)
    batch = batch_of([(token_ids, 0, [0], True)])
    return model.forward(batch, kv_pages, PageViews(kv_pages, config.kv_lora_rank))


def sampled(logits: Tensor, states: list[SamplingState]) -> list[SampledToken | InternalError]:
    """Tokens of rows, drawn by the kernel where that can be."""
    return Sampler(logits.shape[1], draw_on_device).sample(logits, states)


def logits_of_group(directory, prompts, whole_attention) -> tuple[list[Tensor], list[Tensor]]:
    """The last logits of prompts, each read into other pages and gone on with, then of all together: alone,
    and by two ranks that have pages of their own and whole experts.
    """
    plan = RankPlan(
        2,
        directory,
        True,
        torch.float32,
        FLOAT32,
        1,
        4,
        whole_experts=True,
        whole_attention=whole_attention,
        kernels=True,
        own_pages=True,
    )
    alone = torch.zeros(plan.pages_shape)
    model, _ = load_for(directory, True, torch.float32, alone, FLOAT32, kernels=True, decodes=False)
    expected = _read_and_gone_on(ModelRunner(model, alone, 1), prompts)
    group = start_ranks(plan)
    try:
        return expected, _read_and_gone_on(runner_of(group, plan), prompts)
    finally:
        group.close()


def _read_and_gone_on(runner: ModelRunner, prompts) -> list[Tensor]:
    found = []
    for prompt in prompts:
        first = (prompt, 0, [0], True)
        found.append(runner.forward(batch_of([first], runner.batch_device))[0].clone())
        runner.copy(0, 2)
        more = ([5], len(prompt), [2], True)
        found.append(runner.forward(batch_of([more], runner.batch_device))[0].clone())
    items = [(prompt, 0, [page], True) for page, prompt in enumerate(prompts)]
    found.extend(runner.forward(batch_of(items, runner.batch_device)).clone())
    # In another order, so that who attended for a sequence may not do so for its next token.
    items = [([8], len(prompt), [page], True) for page, prompt in reversed([*enumerate(prompts)])]
    found.extend(runner.forward(batch_of(items, runner.batch_device)).clone())
    return found


def steps_of_rank(directory, meeting, rank, whole_attention, batches) -> list[Tensor]:
    """Logits of batches, recorded where they are decode steps, by one of two ranks with whole experts; run
    both at once, in processes of their own, which keep the group. With whole attention, sums too are in
    deterministic mode.
    """
    distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=2)
    group = DistributedGroup(
        deterministic=whole_attention, whole_experts=True, whole_attention=whole_attention
    )
    kv_pages = torch.zeros(RankPlan(2, directory, True, torch.float32, FLOAT32, 1, 4).pages_shape)
    model, _ = load_for(
        directory, True, torch.float32, kv_pages, FLOAT32, kernels=True, decodes=False, group=group
    )
    assert isinstance(model, KernelTextModel)
    runner = ModelRunner(
        model, kv_pages, 1, decode_steps=DecodeGraphs(model, kv_pages, AddressGraph, most_rows=4)
    )
    return [runner.forward(batch_of(list(map(item_of, batch)))).clone() for batch in batches]
