"""A rank of a tensor-parallel group: generates greedily and writes its tokens and logits, and the logits of a
short prompt by itself and beside another.

Run as a module, with CHECKPOINT DETERMINISTIC RANK RANKS WHOLE DIRECTORY; `WHOLE` names what is not split by
width or heads: experts, attention, both or neither. The prompt is DIRECTORY's prompt.npy.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import distributed

from services.engine.loading.text import load_text_model
from services.engine.model.tensor_group import DistributedGroup
from tests.engine.text_models import batch_for, generate, make_runner


def main() -> None:
    checkpoint, deterministic, rank, ranks, whole, directory = sys.argv[1:]
    torch.set_num_threads(1)
    meeting = f"file://{directory}/meeting"
    distributed.init_process_group("gloo", meeting, rank=int(rank), world_size=int(ranks))
    exact = deterministic == "True"
    group = DistributedGroup(
        deterministic=exact, whole_experts="experts" in whole, whole_attention="attention" in whole
    )
    model = load_text_model(Path(checkpoint), exact, group=group)
    prompt = np.load(f"{directory}/prompt.npy").tolist()
    tokens, logits = generate(make_runner(model, 8), prompt, range(8), 24)
    runner = make_runner(model, 2)
    short, other = (prompt[:20], 0, [0], True), (prompt[20:53], 0, [1], True)
    alone = runner.forward(batch_for(runner, short))[0].clone()
    beside = runner.forward(batch_for(runner, short, other))[0]
    np.savez(f"{directory}/rank-{rank}.npz", tokens=tokens, logits=logits, alone=alone, beside=beside)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
