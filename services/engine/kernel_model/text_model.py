"""The text model on the kernels: the same weights, batches and results as `TextModel`, for a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from kernels.mla_decode import MOST_SPLITS, MLADecode
from kernels.rms_norm import add_rms_norm, rms_norm
from services.engine.batch import PAGE_TOKENS, ForwardBatch
from services.engine.kernel_model.attention import KernelAttention, Pass
from services.engine.kernel_model.feed_forward import KernelMixture, KernelMLP
from services.engine.kernel_model.step import KernelStep, plan_step
from services.engine.model.attention.expanded_attention import worthwhile_tokens
from services.engine.model.attention.page_views import PageViews
from services.engine.model.attention.rope import RotaryEmbedding, softmax_scale
from services.engine.model.config.text_config import TextConfig
from services.engine.model.layers.embedding import Embedding
from services.engine.model.layers.projection import Projection
from services.engine.model.layers.row_product import PlainProducts, Products, StableProducts
from services.engine.model.prefixed_weights import PrefixedWeights
from services.engine.model.rank import Rank
from services.engine.model.tensor_group import NoGroup, TensorGroup

SPLIT_TOKENS = 512
"""Tokens per split where splits have a fixed length."""


class KernelTextModel:
    """Built like `TextModel`; takes an expert's int4 parts if `weights` has them.

    In deterministic mode every token attends in the absorbed form, over splits of fixed length, and products
    and experts take tiles of fixed size: a token's bits depend neither on the batch nor on whether it was
    prefilled or decoded. In fast mode chunks of many tokens take the expanded form.

    With a `group`, as in `TextModel`, each rank has its own pages and writes all cache entries, also with
    whole attention.
    """

    def __init__(
        self,
        config: TextConfig,
        weights: Mapping[str, Tensor],
        deterministic: bool,
        group: TensorGroup = NoGroup(),  # noqa: B008 - it has no state
    ) -> None:
        self.config = config
        self._group = group
        heads = group.rank.heads(config.num_attention_heads)
        local = replace(config, num_attention_heads=heads)
        self.deterministic = deterministic
        products = StableProducts() if deterministic else PlainProducts()
        splits = -(-config.max_position_embeddings // SPLIT_TOKENS) if deterministic else MOST_SPLITS
        scale = softmax_scale(config)
        decode = MLADecode(
            config.kv_lora_rank, config.qk_rope_head_dim, scale, splits, deterministic, SPLIT_TOKENS
        )
        self._expand_from = None if deterministic else worthwhile_tokens(config)
        self._embedding = Embedding(weights["model.embed_tokens.weight"], group)
        self._rotary = RotaryEmbedding(config, self.device)
        self._layers = [
            _Layer(index, PrefixedWeights(weights, f"model.layers.{index}."), local, products, decode, group)
            for index in range(config.num_hidden_layers)
        ]
        self._norm = weights["model.norm.weight"]
        self._head = Projection(weights["lm_head.weight"], products)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self._embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of weights and hidden states."""
        return self._embedding.weight.dtype

    @property
    def rank(self) -> Rank:
        """This process's rank in the group."""
        return self._group.rank

    @property
    def table_columns(self) -> int:
        """Pages of the longest context."""
        return -(-self.config.max_position_embeddings // PAGE_TOKENS)

    def forward(
        self,
        batch: ForwardBatch,
        kv_pages: Tensor,
        views: PageViews,
        on_layer: Callable[[int], None] | None = None,
        on_scored: Callable[[Tensor], None] | None = None,
    ) -> Tensor:
        """Runs the batch and writes its cache entries; calls `on_layer(i)` once those of layer i are
        enqueued, and `on_scored` with the logits, float32, of each slice of scored rows.

        Returns logits float32 `[R, vocab]` of `batch.logits_rows`.
        """
        x = self._embedding(batch.token_ids)
        if batch.embeds is not None:
            x[batch.embeds.rows] = batch.embeds.values.to(device=x.device, dtype=x.dtype)
        step = plan_step(batch, self._expand_from, self.rank)
        added = self._run_layers(x, step, kv_pages, on_layer)
        for rows in batch.scored_slices:
            logits = self._logits(x[rows], added[rows])
            if on_scored is not None:
                on_scored(logits)
        return self._logits(x[batch.logits_rows], added[batch.logits_rows])

    def embed(self, token_ids: Tensor) -> Tensor:
        """int64 `[T]` -> `[T, hidden]`."""
        return self._embedding(token_ids)

    def run(
        self,
        x: Tensor,
        step: KernelStep,
        kv_pages: Tensor,
    ) -> Tensor:
        """Computes logits of all rows from embeddings `x [T, hidden]`, which it overwrites.

        Never waits for the GPU.
        """
        return self._logits(x, self._run_layers(x, step, kv_pages, None))

    def _run_layers(
        self, x: Tensor, step: KernelStep, kv_pages: Tensor, on_layer: Callable[[int], None] | None
    ) -> Tensor:
        """Updates `x` by all layers; returns the last one's output, not added yet."""
        shared = Pass(step, kv_pages, self._rotary)
        added: Tensor | None = None
        for index, layer in enumerate(self._layers):
            added = layer(x, added, shared)
            if on_layer is not None:
                on_layer(index)
        assert added is not None
        return added

    def _logits(self, x: Tensor, added: Tensor) -> Tensor:
        """`x`, which it overwrites, and the last layer's output -> logits float32."""
        if not len(x):
            return x.new_empty(0, self.config.vocab_size, dtype=torch.float32)
        normed = add_rms_norm(added, x, self._norm, self.config.rms_norm_eps)
        return self._group.join(self._head(normed)).float()


class _Layer:
    """Updates the residual stream `x` in place; the norm after each half adds that half's output."""

    def __init__(
        self,
        index: int,
        weights: Mapping[str, Tensor],
        config: TextConfig,
        products: Products,
        decode: MLADecode,
        group: TensorGroup,
    ) -> None:
        self._index = index
        self._group = group
        self._eps = config.rms_norm_eps
        self._input_norm = weights["input_layernorm.weight"]
        self._attention = KernelAttention(PrefixedWeights(weights, "self_attn."), config, products, decode)
        self._post_norm = weights["post_attention_layernorm.weight"]
        mlp = PrefixedWeights(weights, "mlp.")
        self._feed_forward = (
            KernelMLP(mlp, products)
            if config.is_dense(index)
            else KernelMixture(mlp, config, products, products.deterministic, group.rank)
        )

    def __call__(self, x: Tensor, added: Tensor | None, shared: Pass) -> Tensor:
        """`x [T, hidden]` and the previous layer's output, not added yet -> this layer's output, not added
        yet.
        """
        if added is None:
            normed = rms_norm(x, self._input_norm, self._eps)
        else:
            normed = add_rms_norm(added, x, self._input_norm, self._eps)
        attended = self._group.sum(self._attention(normed, self._index, shared))
        return self._group.sum(self._feed_forward(add_rms_norm(attended, x, self._post_norm, self._eps)))
