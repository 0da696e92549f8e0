"""The text model: embedding, layers, final norm and head, over a paged cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from services.engine.batch import ForwardBatch
from services.engine.model.attention.attention_share import AttentionShare, deal, part_of
from services.engine.model.attention.expanded_attention import worthwhile_tokens
from services.engine.model.attention.latent_kernel import LatentKernel
from services.engine.model.attention.layer import AttentionContext
from services.engine.model.attention.page_views import PageViews
from services.engine.model.attention.paged_attention import PagedAttention
from services.engine.model.attention.rope import RotaryEmbedding
from services.engine.model.attention.tiled_attention import TiledAttention
from services.engine.model.config.text_config import TextConfig
from services.engine.model.layers.compiled_products import CompiledProducts
from services.engine.model.layers.compiled_rows import CompiledRows
from services.engine.model.layers.embedding import Embedding
from services.engine.model.layers.norm import RMSNorm
from services.engine.model.layers.projection import Projection
from services.engine.model.layers.row_product import PlainProducts, Products, StableProducts
from services.engine.model.prefixed_weights import PrefixedWeights
from services.engine.model.tensor_group import NoGroup, TensorGroup
from services.engine.model.text_layer import TextLayer


def uncompiled(deterministic: bool) -> Products:
    """PyTorch's products, for use where nothing is compiled."""
    return StableProducts() if deterministic else PlainProducts()


class TextModel:
    """Built from tensors in the names of `text_tensors`, all of one dtype; routers' biases may be float32.

    Reads each tensor once, when it builds the part that needs it.

    In deterministic mode a token's hidden state, logits and cache entry are the same bits whatever else is in
    the batch, wherever chunks end, whatever was cached, in prefill or decode; construction checks this on the
    model's own shapes. `inner_norm_eps` replaces the eps of the norms inside attention, which some
    implementations fix at 1e-6.

    With a `group`, `weights` has this rank's share of each tensor that is split (see `StoredTensor.split_dim`
    and `Rank`), and all ranks run the same batches over the same pages. `config` always describes the whole
    model. `layer` computes one layer.
    """

    def __init__(
        self,
        config: TextConfig,
        weights: Mapping[str, Tensor],
        deterministic: bool,
        inner_norm_eps: float | None = None,
        products: Products | None = None,
        group: TensorGroup = NoGroup(),  # noqa: B008 - it has no state
        layer: type[TextLayer] = TextLayer,
    ) -> None:
        self.config = config
        self.deterministic = deterministic
        self.group = group
        heads = group.rank.heads(config.num_attention_heads)
        self._local = replace(config, num_attention_heads=heads)
        self.embedding = Embedding(weights["model.embed_tokens.weight"], group)
        products = (
            products or CompiledProducts.available(self.device, self.dtype) or uncompiled(deterministic)
        )
        self.attention = self._paged_attention()
        compiled = isinstance(products, CompiledProducts)
        rows = CompiledRows.available(self.device, self.dtype) if compiled else None
        # CompiledStep needs all of it compiled, and computes no other layer.
        self.is_compiled = rows is not None and self.attention.kernel is not None and layer is TextLayer
        self.rotary = RotaryEmbedding(config, self.device)
        inner_eps = config.rms_norm_eps if inner_norm_eps is None else inner_norm_eps
        self.layers = [
            layer(
                index,
                PrefixedWeights(weights, f"model.layers.{index}."),
                self._local,
                products,
                self.attention,
                inner_eps,
                group,
                rows,
            )
            for index in range(config.num_hidden_layers)
        ]
        self.norm = RMSNorm(weights["model.norm.weight"], config.rms_norm_eps, rows)
        self.head = Projection(weights["lm_head.weight"], products)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of weights and hidden states."""
        return self.embedding.weight.dtype

    def _paged_attention(self) -> PagedAttention:
        config = self._local
        sizes = (config.num_attention_heads, config.kv_lora_rank, config.kv_width, self.device)
        if not self.deterministic:
            expand_from = worthwhile_tokens(config)
            kernel = LatentKernel.available(*sizes)
            return PagedAttention(TiledAttention(), batch_decode=True, expand_from=expand_from, kernel=kernel)
        return PagedAttention.stable(*sizes)

    def forward(
        self,
        batch: ForwardBatch,
        kv_pages: Tensor,
        views: PageViews,
        on_layer: Callable[[int], None] | None = None,
        on_scored: Callable[[Tensor], None] | None = None,
    ) -> Tensor:
        """Runs the batch and writes its cache entries; calls `on_layer(i)` when those of layer i are
        enqueued, and `on_scored` with the logits, float32, of each slice of scored rows.

        Returns logits float32 `[R, vocab]` of `batch.logits_rows`.
        """
        share = self._share(batch, kv_pages, views)
        x = self._embed(batch)
        for index, layer in enumerate(self.layers):
            x = layer(x, share)
            if on_layer is not None:
                on_layer(index)
        for rows in batch.scored_slices:
            logits = self._logits(x, rows)
            if on_scored is not None:
                on_scored(logits)
        return self._logits(x, batch.logits_rows)

    def _share(self, batch: ForwardBatch, kv_pages: Tensor, views: PageViews) -> AttentionShare:
        """All tokens with this rank's heads, or the tokens of some sequences with all heads."""
        rank = self.group.rank
        if not rank.attends_for_some:
            return AttentionShare(None, self._context(batch, kv_pages, views))
        mine = deal(batch.sequences, rank.count)[rank.index]
        rows, part = part_of(batch, mine)
        return AttentionShare(rows, self._context(part, kv_pages, views) if mine else None)

    def _context(self, batch: ForwardBatch, kv_pages: Tensor, views: PageViews) -> AttentionContext:
        cos, sin = self.rotary.at(batch.positions)
        plan = self.attention.plan(batch, views.kv_format)
        return AttentionContext(cos.unsqueeze(1), sin.unsqueeze(1), batch.slot_mapping, kv_pages, views, plan)

    def _embed(self, batch: ForwardBatch) -> Tensor:
        x = self.embedding(batch.token_ids)
        if batch.embeds is not None:
            x[batch.embeds.rows] = batch.embeds.values.to(device=x.device, dtype=x.dtype)
        return x

    def _logits(self, x: Tensor, rows: Tensor) -> Tensor:
        if not len(rows):
            return x.new_empty(0, self.config.vocab_size, dtype=torch.float32)
        return self.group.join(self.head(self.norm(x[rows]))).float()
