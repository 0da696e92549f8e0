"""Creates the transfer threads of a worker, one for each rank that reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from services.engine.kv_transfer.agents.locked_memory import check_locked_memory
from services.engine.kv_transfer.agents.nixl_agent import NixlAgent
from services.engine.kv_transfer.agents.region import Region
from services.engine.kv_transfer.shared_transfer import RankReader, SharedTransfer
from services.engine.kv_transfer.transfer_thread import TransferThread


@dataclass(frozen=True)
class TransferOpening:
    """Settings of a worker's transfer threads: `name` of rank 0's agent, `options` of NIXL's backend; with
    `expected` "rdma", any other path is refused, and regions that the process may not lock raise ConfigError.
    Picklable, for the ranks' processes.
    """

    name: str
    options: Mapping[str, str]
    expected: Literal["any", "rdma"]

    def __call__(self, regions: Sequence[Region], rank: int = 0) -> TransferThread:
        """A rank's own transfer thread, not started."""
        self._check(regions)
        name = f"{self.name}-{rank}" if rank else self.name
        return TransferThread(self._agent(name), regions, name, **self._demands())

    def shared(
        self, regions: Sequence[Region], others: Sequence[RankReader], entries_per_page: int
    ) -> TransferThread:
        """Rank 0's transfer thread, not started; `others` read their ranks' shares."""
        self._check(regions)
        agent = self._agent(self.name)
        return SharedTransfer(agent, regions, self.name, others, entries_per_page, **self._demands())

    def _check(self, regions: Sequence[Region]) -> None:
        if self.expected == "rdma":
            check_locked_memory(regions)

    def _agent(self, name: str) -> NixlAgent:
        return NixlAgent(name, self.options)

    def _demands(self) -> dict[str, Any]:
        return {"expected": self.expected, "allow_fallback": self.expected != "rdma"}
