"""The text model over rows of packed documents."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from services.engine.model.attention.rope import RotaryEmbedding
from services.engine.model.config.text_config import TextConfig
from training.data.batch import Rows
from training.model.attention import Attention, RowContext
from training.model.mixture import GatedMLP, MixtureOfExperts


class Layer(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, index: int, config: TextConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp: nn.Module = (
            GatedMLP(config.hidden_size, config.intermediate_size)
            if config.is_dense(index)
            else MixtureOfExperts(config)
        )

    def forward(self, x: Tensor, context: RowContext) -> Tensor:
        """`[B, L, hidden]` -> the same."""
        x = x + self.self_attn(self.input_layernorm(x), context)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Backbone(nn.Module):
    """Embedding, layers and final norm, published below ``language_model.model.``."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(index, config) for index in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, context: RowContext) -> Tensor:
        """Embedded tokens `[B, L, hidden]` -> normalised hidden states of the same shape."""
        for layer in self.layers:
            x = layer(x, context)
        out: Tensor = self.norm(x)
        return out


class TrainedText(nn.Module):
    """The weights published below ``language_model.``."""

    _cos: Tensor
    _sin: Tensor

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Backbone(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        rotary = RotaryEmbedding(config)
        self.register_buffer("_cos", rotary.cos, persistent=False)
        self.register_buffer("_sin", rotary.sin, persistent=False)

    def forward(self, rows: Rows, pictures: Tensor | None = None) -> Tensor:
        """Hidden states `[B, L, hidden]`. `pictures [P, hidden]` replace the embeddings of the media pads, in
        order.
        """
        x = self.model.embed_tokens(rows.token_ids)
        if pictures is not None:
            x = x.masked_scatter(rows.is_picture.unsqueeze(-1), pictures.to(x.dtype))
        out: Tensor = self.model(x, self._context(rows))
        return out

    def _context(self, rows: Rows) -> RowContext:
        device = rows.token_ids.device
        cos, sin = self._cos[rows.positions], self._sin[rows.positions]
        same = rows.documents.unsqueeze(2) == rows.documents.unsqueeze(1)
        length = rows.token_ids.shape[1]
        past = torch.ones(length, length, dtype=torch.bool, device=device).tril()
        return RowContext(cos.unsqueeze(2), sin.unsqueeze(2), (same & past).unsqueeze(1))
