"""Estimates the GPU memory that a worker takes while it computes, beside weights and pages.

Follows the kernels' model (`kernel_model/`) tensor by tensor; a test compares it with what the model takes on
the meta device. Needs no tensor library, because commands plan with it.
"""

from __future__ import annotations

import math

from services.common.page_hash import PAGE_TOKENS
from services.engine.loading.worker_shape import WorkerShape
from services.engine.model.config.model_config import ModelConfig
from services.engine.model.config.text_config import TextConfig
from services.engine.model.tensor_names import vision_tensors

CONTEXT_BYTES = 700_000_000
"""Memory of a process's CUDA context, loaded kernels and matrix libraries; an assumption."""
GRAPH_ROWS = 256
"""Rows of the largest recorded decode step."""
GRAPHS = 15
"""Number of recorded decode steps."""
EXPANDED_VALUES = 1 << 28
"""Most values of expanded keys and values in one tensor of the expanded form of attention."""
PARTIAL_VALUES = 1 << 28
"""Most values of the splits' results in the absorbed form of attention."""
SPLIT_TOKENS = 512
"""Tokens of a split in deterministic mode."""
SCORED_ROWS = 64
"""Rows of logits that are scored at a time."""

_BF16 = 2
_F32 = 4
_RESIDENT = 7
# Tensors `[T, hidden]` that a mixture's layer holds while experts run: the stream, its two additions, both
# norms, the shared expert's and the routed experts' results.
_IN_ATTENTION = 4
_SAMPLING_BYTES = 48
# Per logit of a row that is penalised and asks for log-probabilities: 32 in tensors, 16 inside sort and topk.
_EMBEDDING_ROWS = 512 * 64
_BATCH_PATCHES = 8 * 16_384
_IN_VISION_ATTENTION = 13
# `[patches, hidden]` at a time: the stream, its norm, queries, keys and values, and these rotated.
_NODES_PER_LAYER = 26
_NODE_BYTES = 16 * 1024
# What the driver keeps per kernel of a graph; an assumption, as there was no GPU to measure it on.


def graph_bytes(text: TextConfig, shape: WorkerShape) -> int:
    """Bytes of all recorded decode steps: their inputs and logits, the memory that they share, and the
    driver's records of them. 0 for a worker that does not decode.
    """
    if not shape.rows:
        return 0
    columns = -(-text.max_position_embeddings // PAGE_TOKENS)
    buffers = GRAPH_ROWS * (text.vocab_size * _F32 + columns * 4 + 36)
    shared = max(
        _layers(text, shape, GRAPH_ROWS, recorded=True),
        GRAPH_ROWS * text.vocab_size * (_BF16 + _F32) + 3 * GRAPH_ROWS * text.hidden_size * _BF16,
    )
    return buffers + shared + GRAPHS * text.num_hidden_layers * _NODES_PER_LAYER * _NODE_BYTES


def pass_bytes(text: TextConfig, shape: WorkerShape) -> int:
    """Bytes at the peak of a pass that is not recorded, and of the sampling or scoring after it."""
    logits = max(shape.rows, SCORED_ROWS) * text.vocab_size
    held = shape.rows * text.vocab_size * _F32
    return max(_layers(text, shape, shape.chunk_tokens + shape.rows), held + logits * _SAMPLING_BYTES)


def vision_bytes(config: ModelConfig) -> int:
    """Bytes that a vision worker with its defaults takes on a GPU: weights, embeddings, the largest batch of
    images, and its context.
    """
    sizes = config.vision
    if sizes is None:
        return 0
    weights = sum(math.prod(shape) for shape in vision_tensors(sizes).values()) * _BF16
    embeddings = _EMBEDDING_ROWS * sizes.text_hidden_size * _F32
    mlp = 4 * sizes.hidden_size + 2 * sizes.intermediate_size
    values = max(_IN_VISION_ATTENTION * sizes.hidden_size, mlp)
    return weights + embeddings + _BATCH_PATCHES * values * _BF16 + CONTEXT_BYTES


def _layers(text: TextConfig, shape: WorkerShape, tokens: int, recorded: bool = False) -> int:
    """Bytes at the peak of the layers over `tokens` tokens."""
    rank = shape.rank
    hidden = tokens * text.hidden_size * _BF16
    width = text.moe_intermediate_size // (1 if rank.whole_experts else rank.count)
    pairs = tokens * text.num_experts_per_tok
    experts = _RESIDENT * hidden + pairs * (text.hidden_size + width) * _BF16
    low = tokens * (2 * text.q_lora_rank + text.kv_width) * _BF16
    attention = _IN_ATTENTION * hidden + low + _attention(text, shape, tokens, recorded)
    # Each rank's part of a sum, side by side: see DistributedGroup.
    gathered = rank.count * hidden if shape.deterministic and rank.count > 1 else 0
    tables = 0 if recorded else tokens * -(-text.max_position_embeddings // PAGE_TOKENS) * 4
    return max(experts, attention) + gathered + tables


def _attention(text: TextConfig, shape: WorkerShape, tokens: int, recorded: bool) -> int:
    """Bytes of one layer's queries, keys and values, in the form of attention that takes more of them."""
    rank = shape.rank
    heads = rank.heads(text.num_attention_heads)
    if recorded or not shape.deterministic:
        # Short pieces are dealt evenly to ranks that attend for some sequences; a long one is expanded.
        short = -(-tokens // rank.count) if rank.attends_for_some else tokens
    else:
        short = tokens
    per_head = text.qk_head_dim + text.v_head_dim
    latents = 2 * text.kv_lora_rank + text.qk_rope_head_dim
    splits = -(-text.max_position_embeddings // SPLIT_TOKENS) if shape.deterministic else 2
    partial = min(short * splits * heads * text.kv_lora_rank, PARTIAL_VALUES) * _F32
    absorbed = short * heads * (per_head + latents) * _BF16 + partial
    if recorded or shape.deterministic:
        return absorbed
    keys = text.max_position_embeddings
    width = text.qk_nope_head_dim + text.v_head_dim
    at_once = max(1, min(heads, EXPANDED_VALUES // (keys * width)))
    # A group of heads is expanded while the one before it is still held.
    expanded = 2 * max(keys * at_once * width, min(EXPANDED_VALUES, keys * heads * width))
    cached = keys * text.kv_width
    return max(absorbed, (tokens * heads * per_head + expanded + cached) * _BF16)
