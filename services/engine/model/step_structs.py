"""The text model in the structs of services/engine/native/decode_step.c: the same fields in the
same order.
"""

from __future__ import annotations

import ctypes
from typing import Any

from services.engine.model.layers.compiled_products import CompiledMixture, CompiledMLP, PackedWeight
from services.engine.model.layers.compiled_router import CompiledRouter
from services.engine.model.layers.projection import Projection
from services.engine.model.layers.row_product import FixedProduct
from services.engine.model.text_layer import TextLayer
from services.engine.model.text_model import TextModel


def _fields(kind: Any, *names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names]


class LayerStruct(ctypes.Structure):
    """`struct layer`: addresses of a layer's weights."""

    _fields_ = (
        *_fields(ctypes.c_void_p, "input_norm", "down", "q_norm", "q_up", "kv_norm", "absorb", "expand"),
        *_fields(ctypes.c_void_p, "out", "post_norm", "gate_up", "mlp_down"),
        *_fields(ctypes.c_void_p, "router", "bias", "expert_gate_up", "expert_down"),
        ("width", ctypes.c_int64),
    )


class ModelStruct(ctypes.Structure):
    """`struct model`."""

    _fields_ = (
        ("layers", ctypes.POINTER(LayerStruct)),
        *_fields(ctypes.c_void_p, "norm", "head"),
        *_fields(ctypes.c_int32, "num_layers", "hidden", "heads", "nope", "rope", "value", "q_low", "latent"),
        *_fields(ctypes.c_int32, "experts", "top_k", "expert_width", "normalise", "vocab"),
        *_fields(ctypes.c_float, "eps", "inner_eps", "softmax_scale", "router_scale"),
    )


class BatchStruct(ctypes.Structure):
    """`struct batch`."""

    _fields_ = (
        *_fields(ctypes.c_void_p, "x", "cosines", "sines", "slots", "tables", "seen", "tiles", "pages"),
        *_fields(ctypes.c_int64, "page_stride", "layer_stride"),
        *_fields(ctypes.c_int32, "rows", "num_tiles", "tile_rows"),
    )


def describe(model: TextModel) -> ModelStruct:
    """The struct of a model whose parts are all compiled; the model must outlive it."""
    config = model.config
    attention = model.layers[0].attention
    parts = [layer.feed_forward for layer in model.layers]
    expert_width = next((part.experts.width for part in parts if isinstance(part, CompiledMixture)), 0)
    layers = (LayerStruct * len(parts))(*map(_layer, model.layers))
    return ModelStruct(
        layers=layers,
        norm=model.norm.weight.data_ptr(),
        head=_packed(model.head),
        num_layers=len(parts),
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        nope=config.qk_nope_head_dim,
        rope=config.qk_rope_head_dim,
        value=config.v_head_dim,
        q_low=config.q_lora_rank,
        latent=config.kv_lora_rank,
        experts=config.n_routed_experts,
        top_k=config.num_experts_per_tok,
        expert_width=expert_width,
        normalise=config.norm_topk_prob,
        vocab=config.vocab_size,
        eps=config.rms_norm_eps,
        inner_eps=attention.q_norm.eps,
        softmax_scale=attention.scale,
        router_scale=config.routed_scaling_factor,
    )


def _layer(layer: TextLayer) -> LayerStruct:
    attention, feed_forward = layer.attention, layer.feed_forward
    mlp = feed_forward.shared if isinstance(feed_forward, CompiledMixture) else feed_forward
    assert isinstance(mlp, CompiledMLP)
    found = LayerStruct(
        input_norm=layer.input_norm.weight.data_ptr(),
        down=_packed(attention.down),
        q_norm=attention.q_norm.weight.data_ptr(),
        q_up=_packed(attention.q_up),
        kv_norm=attention.kv_norm.weight.data_ptr(),
        absorb=_packed(attention.absorb),
        expand=_packed(attention.expand),
        out=_packed(attention.out),
        post_norm=layer.post_norm.weight.data_ptr(),
        gate_up=mlp.gate_up.data_ptr(),
        mlp_down=mlp.down.data_ptr(),
        width=mlp.width,
    )
    if isinstance(feed_forward, CompiledMixture):
        assert isinstance(feed_forward.router, CompiledRouter)
        found.router = _packed(feed_forward.router.project)
        found.bias = feed_forward.router.bias.data_ptr()
        found.expert_gate_up = feed_forward.experts.gate_up.data_ptr()
        found.expert_down = feed_forward.experts.down.data_ptr()
    return found


def _packed(product: Projection | FixedProduct) -> int:
    """The address of its weight's panels."""
    if isinstance(product, Projection):
        product = product.product
    assert isinstance(product, PackedWeight)
    return product.packed.data_ptr()
