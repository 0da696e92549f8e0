"""The tensors that a checkpoint must have: every tensor's published name, shape, dtype and split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from services.engine.model.architectures import architecture_of
from services.engine.model.config.model_config import ModelConfig
from services.engine.model.config.quantization import GROUP_SIZE
from services.engine.model.config.text_config import TextConfig
from services.engine.model.tensor_names import Shape, vision_tensors
from services.engine.weights.headers import DTYPE_BYTES, TensorHeader

WORD_VALUES = 8
"""int4 values in one int32."""
FLOAT_DTYPES = ("BF16", "F16", "F32")
# Some checkpoints carry the rotary tables, which are computed from the configuration.
IGNORED_PARTS = ("rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached")
ROUTER_BIAS = "e_score_correction_bias"
"""End of the name of the only text tensor that is published in float32."""
_SPLIT_ROWS = ("embed_tokens", "lm_head", "q_b_proj", "kv_b_proj", "gate_proj", "up_proj")
_SPLIT_COLUMNS = ("o_proj", "down_proj")


@dataclass(frozen=True)
class StoredTensor:
    """`dtype` as published and as safetensors spells it; `other_dtypes` are accepted too. `is_text`: of the
    text model, not of the vision part.

    Tensor parallelism splits along `split_dim` (None: every rank has all of it), between units of
    `split_unit` rows, columns or words: those of a head, or of an int4 group.
    """

    shape: Shape
    dtype: str
    split_dim: int | None = None
    split_unit: int = 1
    other_dtypes: tuple[str, ...] = ()
    is_text: bool = True

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The accepted dtypes: floats are converted while loading."""
        return FLOAT_DTYPES if self.dtype in FLOAT_DTYPES else (self.dtype, *self.other_dtypes)


def expected_tensors(config: ModelConfig) -> dict[str, StoredTensor]:
    """The tensors of text model and vision part, named as in the shards; in a quantised checkpoint each
    projection of a routed expert is three tensors.
    """
    architecture = architecture_of(config)
    expected: dict[str, StoredTensor] = {}
    heads = _head_sizes(config.text)
    for below, shape in architecture.text_tensors(config.text).items():
        name = f"{architecture.text_prefix}{below}"
        if config.quantization is not None and is_quantised(name):
            expected |= _packed(name, shape)
        else:
            dtype = "F32" if name.endswith(ROUTER_BIAS) else "BF16"
            expected[name] = StoredTensor(shape, dtype, _split_dim(name), heads.get(_layer(name), 1))
    if config.vision is not None:
        for name, shape in vision_tensors(config.vision).items():
            expected[name] = StoredTensor(shape, "BF16", is_text=False)
    return expected


def is_quantised(name: str) -> bool:
    """Whether an int4 checkpoint packs this weight: only those of routed experts."""
    return ".mlp.experts." in name


def problems_of(headers: Mapping[str, TensorHeader], expected: Mapping[str, StoredTensor]) -> list[str]:
    """Lists every missing tensor, then every extra or misshapen one and those of another dtype."""
    problems = [f"{name} is missing" for name in expected if name not in headers]
    for name, header in headers.items():
        if is_ignored(name):
            continue
        wanted = expected.get(name)
        if wanted is None:
            problems.append(f"{name} does not belong to this model")
        elif header.shape != wanted.shape:
            problems.append(f"{name} has shape {list(header.shape)}, expected {list(wanted.shape)}")
        elif header.dtype not in wanted.dtypes:
            dtypes = ", ".join(wanted.dtypes)
            problems.append(f"{name} has dtype {header.dtype}, expected one of {dtypes}")
    return problems


def is_ignored(name: str) -> bool:
    """Whether a tensor may be present but is not read."""
    return any(part in name for part in IGNORED_PARTS)


def _packed(name: str, shape: Shape) -> dict[str, StoredTensor]:
    rows, columns = shape
    split = _split_dim(name)
    # Columns are split between groups, so that each has its scale on the same rank.
    words = GROUP_SIZE // WORD_VALUES if split == 1 else 1
    return {
        f"{name}_packed": StoredTensor((rows, columns // WORD_VALUES), "I32", split, words),
        f"{name}_scale": StoredTensor((rows, columns // GROUP_SIZE), "BF16", split),
        # Published as int32; the compressed-tensors library writes int64.
        f"{name}_shape": StoredTensor((2,), "I32", other_dtypes=("I64",)),
    }


def _split_dim(name: str) -> int | None:
    layer = _layer(name)
    if layer in _SPLIT_ROWS:
        return 0
    return 1 if layer in _SPLIT_COLUMNS else None


def _head_sizes(config: TextConfig) -> dict[str, int]:
    """Rows, or columns, of one attention head, by projection."""
    return {
        "q_b_proj": config.qk_head_dim,
        "kv_b_proj": config.qk_nope_head_dim + config.v_head_dim,
        "o_proj": config.v_head_dim,
    }


def _layer(name: str) -> str:
    return name.removesuffix(".weight").rpartition(".")[2]
