"""The processes of one worker under `perigee run`, one after the other, and where they are found."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from services.cli.run.child import Child
from services.cli.run.plan import LOOPBACK, ChildPlan
from services.cli.run.ports import take_ports
from services.cli.run.readiness import why_not_serving
from services.cli.run.room import why_no_room
from services.common.errors import ConfigError
from services.common.rpc.endpoints import Endpoints

_POLL_S = 0.1
_USED_S = 10.0
"""Longest wait for the gateway: it is there all the time, unless it restarts as well."""
_OTHERS_S = 0.5
"""One of several gateway processes has answered; the others read the pool's file within this time."""


@dataclass(frozen=True)
class Instance:
    """A process of a service, and the address of its health checks."""

    child: Child
    address: str
    is_healthy: Callable[[], Awaitable[None]]


class Successors:
    """Makes successors of a worker on ports of their own, and writes the pool's file. Event loop only."""

    def __init__(
        self,
        plan: ChildPlan,
        make: Callable[[ChildPlan], Instance],
        pool: Path,
        endpoints: Endpoints,
        gateway: str,
        turn: asyncio.Lock,
        *,
        keep_ports: bool = False,
        env: Mapping[str, str] = os.environ,
    ) -> None:
        """`pool`: the file that gateway and decode read; `gateway`: the address of its health checks;
        `turn`: held while a worker of the suite is replaced; `keep_ports`: it may not move.
        """
        self._plan = plan
        self._make = make
        self._pool = pool
        self.turn = turn
        self._endpoints = endpoints
        self._gateway = gateway
        self._keep_ports = keep_ports
        self._env = env

    async def why_not(self, present: Instance) -> str | None:
        """Returns why no successor can run beside the present process; None if one can."""
        if self._keep_ports:
            return "--keep-ports"
        pid = present.child.pid
        return (
            None if pid is None else await asyncio.to_thread(why_no_room, pid, self._plan.device, self._env)
        )

    def make(self) -> Instance:
        """Returns a successor, not started: on the ports of the plan if they are free, else on others.

        Raises ConfigError if there are none.
        """
        port, metrics_port = self._plan.ports
        with ExitStack() as held:
            return self._make(self._plan.moved(self._free(port, held), self._free(metrics_port, held)))

    def publish(self, *instances: Instance) -> None:
        """Has others find exactly these."""
        new = self._pool.with_suffix(".new")
        new.write_text("".join(f"{instance.address}\n" for instance in instances))
        new.replace(self._pool)

    async def until_used(self, instance: Instance) -> None:
        """Waits until the gateway sends its requests to the worker, or 10 s."""
        try:
            async with asyncio.timeout(_USED_S):
                while await why_not_serving(  # noqa: ASYNC110 - the other side is another process
                    self._endpoints, "gateway", self._gateway, instance.address
                ):
                    await asyncio.sleep(_POLL_S)
                await asyncio.sleep(_OTHERS_S)
        except TimeoutError:
            pass

    def _free(self, wanted: int, held: ExitStack) -> int:
        try:
            return take_ports(self._endpoints, LOOPBACK, wanted, 1, "", held)[0]
        except ConfigError:
            return take_ports(self._endpoints, LOOPBACK, 0, 1, "", held)[0]
