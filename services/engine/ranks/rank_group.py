"""The processes of one worker that share a model: rank 0 leads, the others run the batches that it sends.

On a CPU all map the same pages. Latents are the same on every rank, so there is one copy of them: what is
read from peers into it is there for all, and of new tokens every rank writes the same bits before it reads
them, or one rank writes them that alone reads them in this pass. Each GPU has pages of its own: every rank
reads its share of them from peers, and then all give each other what they have read.
"""

from __future__ import annotations

import os
import pickle
import signal
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor, distributed

from services.common.errors import ConfigError
from services.engine.batch import PAGE_TOKENS, ForwardBatch, LateTokens
from services.engine.host_copy import to_device
from services.engine.kv_cache.kv_pages import allocate_kv_pages, kv_region
from services.engine.kv_transfer.opening import TransferOpening
from services.engine.kv_transfer.remote_reader import RemoteReader, serve_reads
from services.engine.kv_transfer.shared_transfer import reading_rank
from services.engine.loading.for_worker import load_for
from services.engine.loading.hardware import compute_on, parse_device
from services.engine.model.config.model_config import ModelConfig
from services.engine.model.rank import Rank
from services.engine.model.tensor_group import DistributedGroup
from services.engine.ranks.page_lists import PageListReceiver, PageListSender, PageTail
from services.engine.runner import ModelRunner
from services.engine.weights.expected import expected_tensors
from services.engine.weights.share import shares_of

CPU = torch.device("cpu")
_PATIENCE = timedelta(seconds=60)
"""For a rank that is late in a step."""
_CLOSE_S = 5.0
_PAGES_AT_ONCE = 64


@dataclass(frozen=True)
class RankPlan:
    """What every rank is told. `device`: rank 0's; GPUs follow one another. `kernels`, `decodes`: as in
    `load_for`. `own_pages`: each rank has its own; on GPUs it has to be so. `open_transfer`, for such, makes
    what a rank reads its share with, to be started; None: rank 0 reads everything.
    """

    ranks: int
    model: Path
    deterministic: bool
    dtype: torch.dtype
    threads: int
    num_pages: int
    whole_experts: bool = False
    whole_attention: bool = False
    device: torch.device = CPU
    kernels: bool = False
    own_pages: bool = False
    decodes: bool = False
    open_transfer: TransferOpening | None = None

    @property
    def pages_shape(self) -> tuple[int, int, int, int]:
        """As `allocate_kv_pages` has it."""
        text = ModelConfig.from_dir(self.model).text
        return self.num_pages, text.num_hidden_layers, PAGE_TOKENS, text.kv_width

    def device_of(self, rank: int) -> torch.device:
        """Where a rank computes."""
        if self.device.type == "cpu":
            return self.device
        return torch.device(self.device.type, (self.device.index or 0) + rank)

    def check(self) -> None:
        """ConfigError where there is no such group."""
        if self.ranks < 2:
            raise ConfigError(f"tp: a group has at least 2 ranks, not {self.ranks}")
        if self.whole_attention and self.own_pages and not self.kernels:
            raise ConfigError("dp_attention: without the kernels it needs pages that all ranks share")
        if self.device.type == "cuda":
            parse_device(str(self.device_of(self.ranks - 1)))
        config = ModelConfig.from_dir(self.model)
        first = Rank(0, self.ranks, self.whole_experts, self.whole_attention)
        shares_of(expected_tensors(config), first)
        first.experts(config.text.n_routed_experts)

    def group(self) -> DistributedGroup:
        """For a rank that has met the others."""
        return DistributedGroup(
            deterministic=self.deterministic,
            whole_experts=self.whole_experts,
            whole_attention=self.whole_attention,
        )


class RankGroup:
    """Rank 0's side. Its `group` and `kv_pages` are for the model and the runner of this process, its
    `readers` are the others' for rank 0's transfer thread.
    """

    def __init__(self, plan: RankPlan) -> None:
        """Starts the other ranks and meets them; they load their shares while this one loads its own.

        ConfigError where the model cannot be split so.
        """
        plan.check()  # before there are other processes that would find the same
        self._own_pages = plan.own_pages
        self._page_lists = PageListSender()
        memory = ""
        self._memory: int | None = None
        if not plan.own_pages:
            self._memory = os.memfd_create("kv-pages")
            os.truncate(self._memory, torch.Size(plan.pages_shape).numel() * plan.dtype.itemsize)
            memory = f"/proc/{os.getpid()}/fd/{self._memory}"
        context = get_context("spawn")
        with tempfile.TemporaryDirectory() as directory:
            meeting = f"file://{directory}/ranks"
            self._pipes: list[Connection] = []
            self._followers = []
            self.readers: list[RemoteReader] = []
            for rank in range(1, plan.ranks):
                theirs, ours = context.Pipe(duplex=False)
                asked = None
                if plan.open_transfer is not None:
                    asked, asking = context.Pipe()
                    self.readers.append(RemoteReader(asking))
                follower = context.Process(
                    target=_follow, args=(plan, rank, meeting, memory, theirs, asked), daemon=True
                )
                follower.start()
                theirs.close()
                if asked is not None:
                    asked.close()
                self._pipes.append(ours)
                self._followers.append(follower)
            _meet(meeting, 0, plan)
            self.group = plan.group()
            self.kv_pages = _pages(plan, 0, memory)

    def send(self, batch: ForwardBatch, late: LateTokens | None = None) -> None:
        """The others begin with it and with late tokens of this device; OSError where one is gone."""
        packed, tails = self._page_lists.pack(batch)
        self._tell(_Work(packed, tails, () if late is None else tuple(late.rows)))
        if late is not None:
            distributed.broadcast(late.token_ids, 0)

    def spread(self, kv_pages: Tensor, pages: Sequence[int]) -> None:
        """They take what these pages of rank 0 hold, where they have pages of their own.

        Rank 0's device is behind it only when theirs are.
        """
        self._spread(kv_pages, _Spread(tuple(pages), 1))

    def gather(self, kv_pages: Tensor, pages: Sequence[int]) -> None:
        """All take what the ranks have read into these, each its share."""
        self._spread(kv_pages, _Spread(tuple(pages), 1 + len(self.readers)))

    def close(self) -> None:
        """Ends the other ranks."""
        for pipe in self._pipes:
            pipe.close()
        for follower in self._followers:
            follower.join(_CLOSE_S)
            follower.kill()
        distributed.destroy_process_group()
        if self._memory is not None:
            os.close(self._memory)

    def _spread(self, kv_pages: Tensor, spread: _Spread) -> None:
        if self._own_pages:
            self._tell(spread)
            _pass_on(kv_pages, spread, 0)

    def _tell(self, message: _Work | _Spread) -> None:
        data = pickle.dumps(message)
        for pipe in self._pipes:
            pipe.send_bytes(data)


@dataclass(frozen=True)
class _Work:
    """A batch to compute, its page lists told apart. The tokens of `late_rows` come from rank 0's device."""

    batch: ForwardBatch
    tails: tuple[PageTail, ...]
    late_rows: tuple[int, ...]


@dataclass(frozen=True)
class _Spread:
    """What these pages hold is to be on all ranks; it is on the `reading_rank` of `holders`."""

    pages: tuple[int, ...]
    holders: int


def _follow(
    plan: RankPlan, rank: int, meeting: str, memory: str, pipe: Connection, reads: Connection | None
) -> None:
    """Does what rank 0 says, until that is gone. Signals are for rank 0, which finishes what it has."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(plan.threads)
    device = plan.device_of(rank)
    _meet(meeting, rank, plan)
    kv_pages = _pages(plan, rank, memory)
    model, steps = load_for(
        plan.model,
        plan.deterministic,
        kv_pages,
        kernels=plan.kernels,
        decodes=plan.decodes,
        group=plan.group(),
    )
    runner = ModelRunner(model, kv_pages, 1, decode_steps=steps)
    if plan.open_transfer is not None and reads is not None:
        transfer = plan.open_transfer([kv_region(kv_pages)], rank)
        transfer.start()
        threading.Thread(target=serve_reads, args=(reads, transfer), name="rank-reads", daemon=True).start()
    page_lists = PageListReceiver()
    while True:
        try:
            message = pickle.loads(pipe.recv_bytes())
        except EOFError:
            return
        if isinstance(message, _Work):
            batch = page_lists.unpack(message.batch, message.tails)
            runner.forward(batch.to(device), late=_late(message.late_rows, device))
        else:
            _pass_on(kv_pages, message, rank)


def _late(rows: tuple[int, ...], device: torch.device) -> LateTokens | None:
    if not rows:
        return None
    token_ids = torch.empty(len(rows), dtype=torch.int64, device=device)
    distributed.broadcast(token_ids, 0)
    return LateTokens(rows, token_ids)


def _pass_on(kv_pages: Tensor, spread: _Spread, rank: int) -> None:
    """From each holder's pages into those of all others, some at a time: what is on its way is a copy."""
    for holder in range(spread.holders):
        pages = [page for page in spread.pages if reading_rank(page, spread.holders) == holder]
        for start in range(0, len(pages), _PAGES_AT_ONCE):
            ids = to_device(pages[start : start + _PAGES_AT_ONCE], torch.int64, kv_pages.device)
            held = kv_pages[ids]
            distributed.broadcast(held, holder)
            if rank != holder:
                kv_pages[ids] = held
    if spread.holders == 1:
        # Rank 0 alone knows when pages are read into, on every rank. So it must not be through before others.
        distributed.all_reduce(torch.zeros(1, device=kv_pages.device))


def _meet(meeting: str, rank: int, plan: RankPlan) -> None:
    device = plan.device_of(rank)
    compute_on(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, meeting, _PATIENCE, world_size=plan.ranks, rank=rank)


def _pages(plan: RankPlan, rank: int, memory: str) -> Tensor:
    """The rank's own, or those that all have in `memory`, which rank 0 clears."""
    shape, dtype = plan.pages_shape, plan.dtype
    if plan.own_pages:
        pages, layers, _, width = shape
        return allocate_kv_pages(pages, layers, width, dtype, plan.device_of(rank))
    mapped = torch.from_file(memory, shared=True, size=torch.Size(shape).numel(), dtype=dtype).view(shape)
    return mapped if rank else mapped.fill_(0)
