"""The processes of one worker that share a model: rank 0 leads, the others run the batches that it sends.

On a CPU all map the same pages. Latents are the same on every rank, so one copy is enough: what is read from
peers into it is there for all. Entries of new tokens are either written by every rank with the same bits
before that rank reads them, or by the only rank that reads them in this pass. Each GPU has its own pages:
every rank reads its share of them from peers, then the ranks exchange what they have read.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import structlog
from torch import Tensor, distributed

from services.common.errors import Unavailable
from services.engine.batch import DeviceTokens, ForwardBatch, InputEmbeds
from services.engine.host_copy import moved
from services.engine.kv_transfer.remote_reader import RemoteReader
from services.engine.ranks.meeting import Meeting
from services.engine.ranks.page_lists import PageListSender
from services.engine.ranks.page_spread import PageSpread
from services.engine.ranks.process_group import leave_group, shorten_patience
from services.engine.ranks.rank_messages import RankWork, encode
from services.engine.ranks.rank_plan import RankPlan
from services.engine.ranks.rank_process import follow

log = structlog.get_logger()

_CLOSE_S = 5.0
"""Time for the other ranks to end by themselves, and again for leaving the process group."""

_REAP_S = 1.0


class RankGroup:
    """Rank 0's side: starts the other ranks and sends them batches.

    `group` and `kv_pages` are for the model and the runner of this process; `readers`, one for each other
    rank, are for rank 0's transfer thread.
    """

    def __init__(self, plan: RankPlan, bound: socket.socket) -> None:
        """Starts the other ranks and joins them; they load their shares while rank 0 loads its own.

        The ranks meet on `bound`, a socket bound to the loopback address, which the group closes. Raises
        ConfigError if the model cannot be split as planned, Unavailable if a rank ends meanwhile.
        """
        plan.check()  # before the other processes start: they would fail the same way
        self._plan = plan
        self._page_lists = PageListSender()
        self._pipes: list[Connection] = []
        self._followers: list[SpawnProcess] = []
        self.readers: list[RemoteReader] = []
        memory = ""
        self._memory: int | None = None
        if not plan.own_pages:
            self._memory = os.memfd_create("kv-pages")
            os.truncate(self._memory, plan.pages_bytes)
            memory = f"/proc/{os.getpid()}/fd/{self._memory}"
        port = bound.getsockname()[1]
        self._meeting = Meeting.host(bound, plan.ranks, self.check)
        try:
            for rank in range(1, plan.ranks):
                self._start(rank, port, memory)
            self.group = plan.join(0, self._meeting)
            self.kv_pages = plan.open_pages(0, memory)
        except BaseException:
            self.abort()
            raise

    def wait_until_ready(self) -> None:
        """Waits until all ranks can take batches. Raises Unavailable if one ends meanwhile."""
        self._meeting.wait_for_all("ready")
        shorten_patience()

    def check(self) -> None:
        """Raises Unavailable if another rank has ended. Any thread may call it."""
        for rank, follower in enumerate(self._followers, start=1):
            if not follower.is_alive():
                raise Unavailable(f"rank {rank} has ended with exit code {follower.exitcode}")

    def send(self, batch: ForwardBatch, late: DeviceTokens | None = None) -> ForwardBatch:
        """Starts the batch on the other ranks, with late tokens of this device; OSError if a rank is gone.

        Returns the batch to compute here: its embeddings are on this device, in the dtype of the model.
        """
        embeds = batch.embeds
        if embeds is not None:
            values = moved(embeds.values.to(self._plan.dtype), self._plan.device).contiguous()
            embeds = InputEmbeds(embeds.rows, values)
            batch = replace(batch, embeds=embeds)
        sequences = self._page_lists.pack(batch.sequences)
        self._send(RankWork.of(batch, sequences, () if late is None else late.rows))
        if embeds is not None:
            distributed.broadcast(embeds.values, 0)
        if late is not None:
            distributed.broadcast(late.token_ids, 0)
        return batch

    def spread(self, kv_pages: Tensor, pages: Sequence[int]) -> None:
        """Copies these pages of rank 0 to the other ranks, if ranks have their own pages.

        Rank 0's device is past the copy only when those of all ranks are.
        """
        self._spread(kv_pages, PageSpread(tuple(pages), 1))

    def gather(self, kv_pages: Tensor, pages: Sequence[int]) -> None:
        """Copies to all ranks what each rank has read into its share of these pages."""
        self._spread(kv_pages, PageSpread(tuple(pages), 1 + len(self.readers)))

    def close(self) -> None:
        """Ends the other ranks and leaves the group, within about 10 s whatever state they are in."""
        for pipe in self._pipes:
            pipe.close()
        end = time.monotonic() + _CLOSE_S
        for follower in self._followers:
            follower.join(max(0.0, end - time.monotonic()))
        self.abort()

    def abort(self) -> None:
        """Kills the other ranks and leaves the group, so that collectives that wait for them fail.

        Any thread may call it. Idempotent.
        """
        for follower in self._followers:
            follower.kill()
        for follower in self._followers:
            follower.join(_REAP_S)
        if not leave_group(self._plan.device, _CLOSE_S):
            log.error("the process group does not end", seconds=_CLOSE_S)
        memory, self._memory = self._memory, None
        if memory is not None:
            os.close(memory)

    def _start(self, rank: int, port: int, memory: str) -> None:
        context = get_context("spawn")
        theirs, ours = context.Pipe(duplex=False)
        asked = None
        if self._plan.open_transfer is not None:
            asked, asking = context.Pipe()
            self.readers.append(RemoteReader(asking))
        follower = context.Process(
            target=follow, args=(self._plan, rank, port, memory, theirs, asked), daemon=True
        )
        follower.start()
        theirs.close()
        if asked is not None:
            asked.close()
        self._pipes.append(ours)
        self._followers.append(follower)

    def _spread(self, kv_pages: Tensor, spread: PageSpread) -> None:
        if self._plan.own_pages:
            self._send(spread)
            spread.run(kv_pages, 0)

    def _send(self, message: RankWork | PageSpread) -> None:
        data = encode(message)
        for pipe in self._pipes:
            pipe.send_bytes(data)
