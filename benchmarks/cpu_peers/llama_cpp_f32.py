"""llama.cpp in float32, in the environment that benchmarks.peers made for it; same protocol as vllm_cpu.py.

python llama_cpp_f32.py MODEL_DIR

First writes the checkpoint, a DeepSeek-V3 text model, as GGUF.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import torch
from safetensors import safe_open

MAX_SEQUENCES = 32
CONTEXT = 40 * 1024
BATCH = 2048

# llama.cpp's name of a layer's tensor, by its name in the checkpoint without `.weight`.
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_a_proj": "attn_q_a",
    "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
}
_MLP = {"gate_proj": "gate", "up_proj": "up", "down_proj": "down"}


class Checkpoint:
    """Tensors by name, as float32 arrays."""

    def __init__(self, directory: Path) -> None:
        self.config: dict[str, Any] = json.loads((directory / "config.json").read_text())
        self._file = safe_open(directory / "model.safetensors", "pt")

    def __getitem__(self, name: str) -> np.ndarray:
        tensor: torch.Tensor = self._file.get_tensor(name)
        return tensor.float().contiguous().numpy()


def tensors(checkpoint: Checkpoint) -> Iterator[tuple[str, np.ndarray]]:
    """All tensors, under llama.cpp's names."""
    config = checkpoint.config
    yield "token_embd.weight", checkpoint["model.embed_tokens.weight"]
    yield "output_norm.weight", checkpoint["model.norm.weight"]
    yield "output.weight", checkpoint["lm_head.weight"]
    heads, nope = config["num_attention_heads"], config["qk_nope_head_dim"]
    for layer in range(config["num_hidden_layers"]):
        own, theirs = f"model.layers.{layer}", f"blk.{layer}"
        for name, renamed in _LAYER.items():
            yield f"{theirs}.{renamed}.weight", checkpoint[f"{own}.{name}.weight"]
        # llama.cpp computes in the absorbed form too.
        up = checkpoint[f"{own}.self_attn.kv_b_proj.weight"].reshape(heads, -1, config["kv_lora_rank"])
        yield f"{theirs}.attn_k_b.weight", np.ascontiguousarray(up[:, :nope].transpose(0, 2, 1))
        yield f"{theirs}.attn_v_b.weight", np.ascontiguousarray(up[:, nope:])
        if layer < config["first_k_dense_replace"]:
            for name, renamed in _MLP.items():
                yield f"{theirs}.ffn_{renamed}.weight", checkpoint[f"{own}.mlp.{name}.weight"]
            continue
        yield f"{theirs}.ffn_gate_inp.weight", checkpoint[f"{own}.mlp.gate.weight"]
        yield f"{theirs}.exp_probs_b.bias", checkpoint[f"{own}.mlp.gate.e_score_correction_bias"]
        for name, renamed in _MLP.items():
            experts = [
                checkpoint[f"{own}.mlp.experts.{expert}.{name}.weight"]
                for expert in range(config["n_routed_experts"])
            ]
            yield f"{theirs}.ffn_{renamed}_exps.weight", np.stack(experts)
            yield (
                f"{theirs}.ffn_{renamed}_shexp.weight",
                checkpoint[f"{own}.mlp.shared_experts.{name}.weight"],
            )


def write_gguf(checkpoint: Checkpoint, path: Path) -> None:
    """Writes one file, without a vocabulary."""
    config, writer = checkpoint.config, gguf.GGUFWriter(path, "deepseek2")
    rope = config["rope_scaling"]
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_leading_dense_block_count(config["first_k_dense_replace"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_q_lora_rank(config["q_lora_rank"])
    writer.add_kv_lora_rank(config["kv_lora_rank"])
    writer.add_key_length(config["kv_lora_rank"] + config["qk_rope_head_dim"])
    writer.add_value_length(config["kv_lora_rank"])
    writer.add_key_length_mla(config["qk_nope_head_dim"] + config["qk_rope_head_dim"])
    writer.add_value_length_mla(config["v_head_dim"])
    writer.add_expert_count(config["n_routed_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_expert_shared_count(config["n_shared_experts"])
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    writer.add_expert_weights_scale(config["routed_scaling_factor"])
    writer.add_expert_weights_norm(True)
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    writer.add_rope_dimension_count(config["qk_rope_head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(rope["factor"])
    writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    writer.add_rope_scaling_yarn_log_mul(0.1 * rope["mscale_all_dim"])
    for name, values in tensors(checkpoint):
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Model:
    """Greedy decoding of several sequences at once."""

    def __init__(self, path: Path, vocab: int, threads: int) -> None:
        llama_cpp.llama_backend_init()
        self._quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self._quiet, ctypes.c_void_p())
        model = llama_cpp.llama_model_load_from_file(
            str(path).encode(), llama_cpp.llama_model_default_params()
        )
        how = llama_cpp.llama_context_default_params()
        how.n_ctx, how.n_batch, how.n_ubatch, how.n_seq_max = CONTEXT, BATCH, 512, MAX_SEQUENCES
        how.n_threads = how.n_threads_batch = threads
        how.type_k = how.type_v = 0  # GGML_TYPE_F32
        how.kv_unified = True
        self._context = llama_cpp.llama_init_from_model(model, how)
        if not self._context:
            raise RuntimeError("llama.cpp does not take the model")
        self._batch = llama_cpp.llama_batch_init(BATCH, 0, 1)
        self._vocab = vocab

    def answer(self, prompts: list[list[int]], tokens: int) -> list[list[int]]:
        """Returns `tokens` tokens for each prompt."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        last = [self._prefill(sequence, prompt) for sequence, prompt in enumerate(prompts)]
        answers = [[token] for token in last]
        for step in range(tokens - 1):
            rows = [
                (answer[-1], len(prompt) + step, sequence, True)
                for sequence, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
            ]
            self._decode(rows)
            for sequence, answer in enumerate(answers):
                answer.append(self._best(sequence))
        return answers

    def _prefill(self, sequence: int, prompt: list[int]) -> int:
        rows = [(token, at, sequence, at + 1 == len(prompt)) for at, token in enumerate(prompt)]
        for start in range(0, len(rows), BATCH):
            self._decode(rows[start : start + BATCH])
        return self._best((len(rows) - 1) % BATCH)

    def _decode(self, rows: list[tuple[int, int, int, bool]]) -> None:
        batch = self._batch
        batch.n_tokens = len(rows)
        for index, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[index], batch.pos[index], batch.logits[index] = token, position, wanted
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, sequence
        if llama_cpp.llama_decode(self._context, batch):
            raise RuntimeError("llama_decode failed")

    def _best(self, row: int) -> int:
        logits = llama_cpp.llama_get_logits_ith(self._context, row)
        return int(np.ctypeslib.as_array(logits, (self._vocab,)).argmax())


def main() -> None:
    """Answers lines until the input ends."""
    checkpoint = Checkpoint(Path(sys.argv[1]))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.gguf"
        write_gguf(checkpoint, path)
        model = Model(path, checkpoint.config["vocab_size"], int(os.environ.get("OMP_NUM_THREADS", "2")))
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        began = time.perf_counter()
        tokens = model.answer(asked["prompts"], asked["tokens"])
        print(json.dumps({"tokens": tokens, "seconds": time.perf_counter() - began}), flush=True)


if __name__ == "__main__":
    main()
