"""Writes the model that measures CPU engines: 90 M random parameters in the real latent width.

python -m benchmarks.bench_90m DIR

writes DIR/kimi, the published layout, and DIR/deepseek, the same weights as a DeepSeek-V3 text model.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from services.common.model_types import read_config
from services.engine.model.architectures import architecture_of
from services.engine.model.tensor_names import text_tensors
from services.engine.weights.checkpoint import Checkpoint
from services.engine.weights.random_checkpoint import write_random_checkpoint

TEXT = {
    "hidden_size": 512,
    "num_hidden_layers": 8,
    "first_k_dense_replace": 1,
    "intermediate_size": 1536,
    "moe_intermediate_size": 192,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "q_lora_rank": 256,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_routed_experts": 32,
    "num_experts_per_tok": 4,
    "n_shared_experts": 1,
    "vocab_size": 8192,
}
_SEED = 90


def config(template: Path) -> dict[str, Any]:
    """The configuration of a checkpoint in the published layout, with these sizes."""
    values = read_config(template / "config.json")
    values["text_config"] |= TEXT
    values["vision_config"] |= {"text_hidden_size": TEXT["hidden_size"]}
    return values


def write(directory: Path, template: Path) -> None:
    """Writes both; raises ConfigError if `directory` already holds something."""
    kimi, deepseek = directory / "kimi", directory / "deepseek"
    write_random_checkpoint(kimi, config(template), seed=_SEED)
    checkpoint = Checkpoint.checked(kimi)
    reader = checkpoint.reader(torch.bfloat16)
    names = text_tensors(checkpoint.config.text)
    deepseek.mkdir()
    prefix = architecture_of(checkpoint.config).text_prefix
    tensors = {name: reader.read(f"{prefix}{name}").clone() for name in names}
    save_file(tensors, deepseek / "model.safetensors", metadata={"format": "pt"})
    text = config(template)["text_config"] | {
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        "tie_word_embeddings": False,
    }
    (deepseek / "config.json").write_text(json.dumps(text, indent=1) + "\n")


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_90m", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--template", type=Path, default=Path("models/kimi-nano"))
    given = parser.parse_args()
    write(given.directory, given.template)


if __name__ == "__main__":
    main()
