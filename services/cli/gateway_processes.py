"""Runs several gateway processes on one port; the kernel distributes the connections among them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import structlog

from services.cli.run.child import Child, describe_exit, perigee
from services.cli.run.keeper import RestartPolicy
from services.cli.run.ports import hold_shared_port
from services.common.errors import ConfigError
from services.common.graces import GATEWAY_CLOSE_S
from services.common.rpc.endpoints import Endpoints
from services.common.settings import flag_name
from services.gateway.config import GatewayConfig

log = structlog.get_logger()

_WRONG_SETTINGS = 2


async def serve_processes(
    config: GatewayConfig, endpoints: Endpoints, log_level: str, stop: asyncio.Event
) -> None:
    """Keeps `config.processes` gateway processes running until `stop` is set, then drains them.

    Each is a complete gateway with its own connections to workers and its own limits. Raises ConfigError if a
    port is taken or the processes refuse their settings.
    """
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="perigee-gateway-")))
        http_port, grpc_port, operator_port = (
            hold_shared_port(endpoints, host, getattr(config, key), flag_name(key), stack)
            for key, host in (
                ("http_port", config.host),
                ("grpc_port", config.host),
                ("operator_port", config.operator_host),
            )
        )
        alone = replace(config, http_port=http_port, grpc_port=grpc_port, operator_port=operator_port)
        processes = [
            _gateway_process(replace(alone, crew=str(directory / str(number))), log_level)
            for number in range(config.processes)
        ]
        log.info(
            "gateway processes",
            count=len(processes),
            http=http_port,
            grpc=grpc_port,
            operator=operator_port,
        )
        keeping: list[asyncio.Task[Any]] = [
            asyncio.create_task(_keep(number, process)) for number, process in enumerate(processes)
        ]
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
            await asyncio.gather(
                *(process.stop(config.grace_seconds + GATEWAY_CLOSE_S) for process in processes)
            )


def _gateway_process(config: GatewayConfig, log_level: str) -> Child:
    """Returns a process with exactly these settings, whatever the environment and settings file contain."""
    return Child(perigee("gateway", "--log-level", log_level, *_flags(config)), os.environ)


async def _keep(number: int, child: Child) -> None:
    """Runs a process and restarts it whenever it ends, until cancelled."""
    policy, crashes = RestartPolicy(), 0
    while True:
        began = time.monotonic()
        await child.start()
        status = await child.wait()
        if status == _WRONG_SETTINGS:
            raise ConfigError(f"gateway process {number} did not start; see its own error above")
        crashes = policy.count(crashes, time.monotonic() - began)
        pause = policy.pause(crashes)
        log.error("gateway process ended", process=number, why=describe_exit(status), restart_in_s=pause)
        await asyncio.sleep(pause)


def _flags(config: GatewayConfig) -> Iterator[str]:
    for field in fields(config):
        flag, value = flag_name(field.name), getattr(config, field.name)
        if isinstance(value, bool):
            yield flag if value else flag.replace("--", "--no-", 1)
        else:
            yield f"{flag}={','.join(value) if isinstance(value, tuple) else value}"
