"""Where the ranks of a group find each other, and wait for each other while they start."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Self

from torch._C._distributed_c10d import TCPStore

from services.common.errors import Unavailable

PATIENCE = timedelta(hours=1)
"""The longest wait between the first rank that has loaded its share of a checkpoint and the last."""
_HOST = "127.0.0.1"
_LOOK_S = 0.02


class Meeting:
    """A store that rank 0's process serves on the loopback address for as long as the group lasts.

    Not all process groups meet when they are made: NCCL's may do so at the first collective.
    """

    def __init__(
        self,
        store: TCPStore,
        rank: int,
        ranks: int,
        check: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`check` raises an error if another rank has ended; only rank 0 calls it. `clock`: seconds."""
        self.store = store
        self._rank = rank
        self._ranks = ranks
        self._check = check
        self._clock = clock

    @classmethod
    def host(cls, bound: socket.socket, ranks: int, check: Callable[[], None]) -> Self:
        """Rank 0's side, which serves the store on a bound socket, and owns the socket from now on."""
        port = bound.getsockname()[1]
        # `wait_for_workers` would not notice a rank that ends before it comes.
        store = TCPStore(
            _HOST, port, ranks, True, PATIENCE, wait_for_workers=False, master_listen_fd=bound.detach()
        )
        return cls(store, 0, ranks, check)

    @classmethod
    def join(cls, port: int, rank: int, ranks: int) -> Self:
        """The side of another rank; `port` is the one that rank 0 serves on."""
        return cls(TCPStore(_HOST, port, ranks, False, PATIENCE), rank, ranks)

    def wait_for_all(self, stage: str) -> None:
        """Returns when all ranks have called it for this stage of their start.

        Waits an hour. Raises Unavailable on rank 0 if a rank has ended or does not come, and an error of
        torch.distributed on the others if rank 0 is gone.
        """
        self.store.set(_key(stage, self._rank), "")
        go = _key(stage, "all")
        if self._rank:
            self.store.wait([go], PATIENCE)
            return
        here = [_key(stage, rank) for rank in range(self._ranks)]
        deadline = self._clock() + PATIENCE.total_seconds()
        while not self.store.check(here):
            self._check()
            if self._clock() > deadline:
                missing = [rank for rank, key in enumerate(here) if not self.store.check([key])]
                raise Unavailable(f"ranks {missing} are not {stage} after {PATIENCE}")
            time.sleep(_LOOK_S)
        self.store.set(go, "")


def _key(stage: str, who: int | str) -> str:
    return f"perigee/{stage}/{who}"
