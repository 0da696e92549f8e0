"""A gateway of several processes: the kernel gives each its share of the connections to one port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import structlog

from services.cli.run.child import describe_exit
from services.cli.run.keeper import RestartPolicy
from services.cli.run.ports import take_ports
from services.common.errors import ConfigError
from services.common.settings import flag_name
from services.gateway.config import GatewayConfig

log = structlog.get_logger()

_WRONG_SETTINGS = 2
_STOP_S = 5.0


async def serve_crew(config: GatewayConfig, log_level: str, stop: asyncio.Event) -> None:
    """Keeps `config.processes` of them running until `stop` is set, then lets them drain.

    Each is a whole gateway, with connections to the workers and limits of its own. ConfigError where a port
    is taken and where they refuse their settings.
    """
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="perigee-gateway-")))
        config = replace(config, http_port=_held(stack, config, "http_port"))
        config = replace(config, grpc_port=_held(stack, config, "grpc_port"))
        alone = replace(config, processes=1)
        members = [
            _Member(number, _command(replace(alone, crew=str(directory / str(number))), log_level))
            for number in range(config.processes)
        ]
        log.info("gateway processes", count=len(members), http=config.http_port, grpc=config.grpc_port)
        keeping: list[asyncio.Task[Any]] = [asyncio.create_task(member.keep()) for member in members]
        stopped: asyncio.Task[Any] = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({*keeping, stopped}, return_when=asyncio.FIRST_COMPLETED)
            for task in keeping:
                if task.done():
                    task.result()
        finally:
            for task in (*keeping, stopped):
                task.cancel()
            await asyncio.gather(*keeping, stopped, return_exceptions=True)
            await asyncio.gather(*(member.stop(config.grace_seconds + _STOP_S) for member in members))


class _Member:
    """One of the processes."""

    def __init__(self, number: int, command: Sequence[str]) -> None:
        self._number = number
        self._command = command
        self._process: asyncio.subprocess.Process | None = None

    async def keep(self) -> None:
        """Starts it again whenever it ends, until cancelled."""
        policy, crashes = RestartPolicy(), 0
        while True:
            began = time.monotonic()
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
            )
            status = await self._process.wait()
            if status == _WRONG_SETTINGS:
                raise ConfigError(f"process {self._number} of the gateway did not start; it has said why")
            crashes = 1 if time.monotonic() - began > policy.forgive_s else crashes + 1
            pause = policy.pause(crashes)
            why = describe_exit(status)
            log.error("gateway process ended", process=self._number, why=why, restart_in_s=pause)
            await asyncio.sleep(pause)

    async def stop(self, patience_s: float) -> None:
        """Asks it to end, and ends it."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(patience_s):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _command(config: GatewayConfig, log_level: str) -> list[str]:
    """What starts a process with these settings, whatever the environment and files say."""
    program = [sys.executable, "-m", "services.cli.main", "gateway"]
    return [*program, "--log-level", log_level, "--die-with", str(os.getpid()), *_flags(config)]


def _flags(config: GatewayConfig) -> Iterator[str]:
    for field in fields(config):
        flag, value = flag_name(field.name), getattr(config, field.name)
        if isinstance(value, bool):
            yield flag if value else flag.replace("--", "--no-", 1)
        else:
            yield f"{flag}={value}"


def _held(stack: contextlib.ExitStack, config: GatewayConfig, key: str) -> int:
    """The port, checked to be free, and kept so: a socket that does not listen gets no connections."""
    (port,) = take_ports(config.host, getattr(config, key), 1, flag_name(key))
    holder = stack.enter_context(
        socket.socket(socket.AF_INET6 if ":" in config.host else socket.AF_INET, socket.SOCK_STREAM)
    )
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind((config.host, port))
    return port
