"""The processes of one worker that share a model: rank 0 leads, the others run the batches that it sends.

On a CPU all map the same pages. Latents are the same on every rank, so one copy is enough: what is read from
peers into it is there for all. Entries of new tokens are either written by every rank with the same bits
before that rank reads them, or by the only rank that reads them in this pass. Each GPU has its own pages:
every rank reads its share of them from peers, then the ranks exchange what they have read.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection

from torch import Tensor, distributed

from services.engine.batch import DeviceTokens, ForwardBatch
from services.engine.kv_transfer.remote_reader import RemoteReader
from services.engine.ranks.page_lists import PageListSender
from services.engine.ranks.page_spread import PageSpread
from services.engine.ranks.rank_messages import RankWork, encode
from services.engine.ranks.rank_plan import RankPlan
from services.engine.ranks.rank_process import follow

_CLOSE_S = 5.0


class RankGroup:
    """Rank 0's side: starts the other ranks and sends them batches.

    `group` and `kv_pages` are for the model and the runner of this process; `readers`, one for each other
    rank, are for rank 0's transfer thread.
    """

    def __init__(self, plan: RankPlan) -> None:
        """Starts the other ranks and joins them; they load their shares while rank 0 loads its own.

        Raises ConfigError if the model cannot be split as planned.
        """
        plan.check()  # before the other processes start: they would fail the same way
        self._own_pages = plan.own_pages
        self._page_lists = PageListSender()
        memory = ""
        self._memory: int | None = None
        if not plan.own_pages:
            self._memory = os.memfd_create("kv-pages")
            os.truncate(self._memory, plan.pages_bytes)
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
                    target=follow, args=(plan, rank, meeting, memory, theirs, asked), daemon=True
                )
                follower.start()
                theirs.close()
                if asked is not None:
                    asked.close()
                self._pipes.append(ours)
                self._followers.append(follower)
            plan.join(0, meeting)
            self.group = plan.group()
            self.kv_pages = plan.open_pages(0, memory)

    def send(self, batch: ForwardBatch, late: DeviceTokens | None = None) -> None:
        """Starts the batch on the other ranks, with late tokens of this device; OSError if a rank is gone."""
        sequences = self._page_lists.pack(batch.sequences)
        self._send(RankWork.of(batch, sequences, () if late is None else late.rows))
        if late is not None:
            distributed.broadcast(late.token_ids, 0)

    def spread(self, kv_pages: Tensor, pages: Sequence[int]) -> None:
        """Copies these pages of rank 0 to the other ranks, if ranks have their own pages.

        Rank 0's device is past the copy only when those of all ranks are.
        """
        self._spread(kv_pages, PageSpread(tuple(pages), 1))

    def gather(self, kv_pages: Tensor, pages: Sequence[int]) -> None:
        """Copies to all ranks what each rank has read into its share of these pages."""
        self._spread(kv_pages, PageSpread(tuple(pages), 1 + len(self.readers)))

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

    def _spread(self, kv_pages: Tensor, spread: PageSpread) -> None:
        if self._own_pages:
            self._send(spread)
            spread.run(kv_pages, 0)

    def _send(self, message: RankWork | PageSpread) -> None:
        data = encode(message)
        for pipe in self._pipes:
            pipe.send_bytes(data)
