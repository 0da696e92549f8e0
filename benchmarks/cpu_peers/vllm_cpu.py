"""vLLM on the CPU, in the environment that benchmarks.peers made for it; answers line by line.

python vllm_cpu.py MODEL_DIR

Reads JSON lines: {"prompts": [[token, ...], ...], "tokens": N}; answers each with a line that holds the
greedy tokens of every prompt and the seconds it took.
"""

from __future__ import annotations

import json
import os
import sys
import time

os.environ |= {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
}


def main() -> None:
    """Answers lines until the input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr
    from vllm import LLM, SamplingParams

    model = LLM(
        model=sys.argv[1],
        dtype="float32",
        enforce_eager=True,
        skip_tokenizer_init=True,
        max_model_len=4096,
        max_num_seqs=64,
        enable_prefix_caching=False,
        hf_overrides={"topk_method": "noaux_tc", "scoring_func": "sigmoid"},
    )
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        prompts = [{"prompt_token_ids": prompt} for prompt in asked["prompts"]]
        how = SamplingParams(temperature=0.0, max_tokens=asked["tokens"], ignore_eos=True, detokenize=False)
        began = time.perf_counter()
        outputs = model.generate(prompts, how, use_tqdm=False)
        seconds = time.perf_counter() - began
        tokens = [list(output.outputs[0].token_ids) for output in outputs]
        print(json.dumps({"tokens": tokens, "seconds": seconds}), file=answers, flush=True)


if __name__ == "__main__":
    main()
