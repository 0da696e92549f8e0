"""The processes of one worker that share a model: rank 0 leads, the others run the batches that it sends.

All map the same pages. Latents are the same on every rank, so there is one copy of them: what is read from
peers into it is there for all, and of new tokens every rank writes the same bits before it reads them, or one
rank writes them that alone reads them in this pass.
"""

from __future__ import annotations

import os
import pickle
import signal
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor, distributed

from services.common.errors import ConfigError
from services.engine.batch import PAGE_TOKENS, ForwardBatch
from services.engine.model.config import ModelConfig
from services.engine.model.tensor_group import DistributedGroup
from services.engine.runner import ModelRunner
from services.engine.weights.expected import expected_tensors
from services.engine.weights.share import Rank, shares_of
from services.engine.weights.text import load_text_model

_PATIENCE = timedelta(seconds=60)
"""For a rank that is late; loading goes on at its own speed, for nothing is sent in it."""
_CLOSE_S = 5.0


@dataclass(frozen=True)
class RankPlan:
    """What every rank is told."""

    ranks: int
    model: Path
    deterministic: bool
    dtype: torch.dtype
    threads: int
    num_pages: int
    whole_experts: bool = False
    whole_attention: bool = False

    @property
    def pages_shape(self) -> tuple[int, int, int, int]:
        """As `allocate_kv_pages` has it."""
        text = ModelConfig.from_dir(self.model).text
        return self.num_pages, text.num_hidden_layers, PAGE_TOKENS, text.kv_width

    def group(self) -> DistributedGroup:
        """For a rank that has met the others."""
        return DistributedGroup(whole_experts=self.whole_experts, whole_attention=self.whole_attention)


class RankGroup:
    """Rank 0's side. Its `group` and `kv_pages` are for the model and the runner of this process."""

    def __init__(self, plan: RankPlan) -> None:
        """Starts the other ranks and meets them; they load their shares while this one loads its own.

        ConfigError where the model cannot be split so.
        """
        if plan.ranks < 2:
            raise ConfigError(f"tp: a group has at least 2 ranks, not {plan.ranks}")
        config = ModelConfig.from_dir(plan.model)
        # Raised here, before there are other processes that would raise it too.
        first = Rank(0, plan.ranks, plan.whole_experts, plan.whole_attention)
        shares_of(expected_tensors(config), first)
        first.experts(config.text.n_routed_experts)
        shape = plan.pages_shape
        self._memory = os.memfd_create("kv-pages")
        os.truncate(self._memory, torch.Size(shape).numel() * plan.dtype.itemsize)
        memory = f"/proc/{os.getpid()}/fd/{self._memory}"
        context = get_context("spawn")
        with tempfile.TemporaryDirectory() as directory:
            meeting = f"file://{directory}/ranks"
            self._pipes: list[Connection] = []
            self._followers = []
            for rank in range(1, plan.ranks):
                theirs, ours = context.Pipe(duplex=False)
                follower = context.Process(
                    target=_follow, args=(plan, rank, meeting, memory, theirs), daemon=True
                )
                follower.start()
                theirs.close()
                self._pipes.append(ours)
                self._followers.append(follower)
            _meet(meeting, 0, plan.ranks)
            self.group = plan.group()
            self.kv_pages = _mapped(memory, shape, plan.dtype).fill_(0)

    def send(self, batch: ForwardBatch) -> None:
        """The others begin with it; OSError where one is gone."""
        data = pickle.dumps(batch)
        for pipe in self._pipes:
            pipe.send_bytes(data)

    def close(self) -> None:
        """Ends the other ranks."""
        for pipe in self._pipes:
            pipe.close()
        for follower in self._followers:
            follower.join(_CLOSE_S)
            follower.kill()
        distributed.destroy_process_group()
        os.close(self._memory)


def _follow(plan: RankPlan, rank: int, meeting: str, memory: str, pipe: Connection) -> None:
    """Runs what rank 0 sends, until that is gone. Signals are for rank 0, which finishes what it has."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(plan.threads)
    kv_pages = _mapped(memory, plan.pages_shape, plan.dtype)
    _meet(meeting, rank, plan.ranks)
    model = load_text_model(plan.model, plan.deterministic, plan.dtype, group=plan.group())
    runner = ModelRunner(model, kv_pages, layers_per_group=1)
    while True:
        try:
            data = pipe.recv_bytes()
        except EOFError:
            return
        runner.forward(pickle.loads(data))


def _meet(meeting: str, rank: int, ranks: int) -> None:
    distributed.init_process_group("gloo", meeting, _PATIENCE, world_size=ranks, rank=rank)


def _mapped(path: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.from_file(path, shared=True, size=torch.Size(shape).numel(), dtype=dtype).view(shape)
