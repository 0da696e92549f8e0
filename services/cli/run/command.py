"""`perigee run`: runs the whole suite on this machine."""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TextIO, cast

from services.cli.run.child import Child
from services.cli.run.greeting import greeting
from services.cli.run.keeper import Keeper
from services.cli.run.plan import ChildPlan, SuitePlan, child_environment, make_plan
from services.cli.run.progress import Progress
from services.cli.run.readiness import until_healthy
from services.cli.run.role_settings import with_role_settings
from services.cli.run.run_directory import held
from services.cli.run.supervisor import Supervisor
from services.cli.run_config import RunConfig
from services.cli.settings_source import add_setting_flags, resolve_settings, settings_file
from services.common.logs import LossyStream
from services.common.rpc.endpoints import Endpoints
from services.common.rpc.tls.security import Security


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_setting_flags(parser, RunConfig)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Resolves the settings and runs the suite."""
    config = resolve_settings(RunConfig, "run", arguments, os.environ)
    return run_suite(config, settings_file(arguments, os.environ))


def run_suite(config: RunConfig, file: str | None) -> int:
    """Runs the suite until Ctrl-C or SIGTERM; a second one kills processes that have not stopped yet.

    `file`: the settings file of all services. Raises ConfigError, also if another suite uses `run_dir`.
    """
    security = _security(config)
    endpoints = Endpoints("operator", security)
    with held(config.run_dir), security.watching():
        plan = with_role_settings(make_plan(config, endpoints, file), config, file, os.environ)
        asyncio.run(_run(config, endpoints, plan))
    return 0


def _security(config: RunConfig) -> Security:
    """Health checks are an operator's calls."""
    own = str(Path(config.tls_dir) / "operator") if config.tls_dir else ""
    return Security.of(replace(config, tls_dir=own), "operator")


async def _run(config: RunConfig, endpoints: Endpoints, plan: SuitePlan) -> None:
    progress = Progress(cast(TextIO, LossyStream(sys.stdout)), [child.role for child in plan.children])
    keepers = [_keeper(config, endpoints, child, progress) for child in plan.children]
    stop, hurry = asyncio.Event(), asyncio.Event()

    def signalled() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, signalled)
    progress.print(f"starting {plan.model_name} …")
    connected = functools.partial(until_healthy, endpoints, "gateway", plan.operator_address, "workers")
    supervisor = Supervisor(keepers, progress, config.stop_timeout_s, connected)
    await supervisor.run(stop, hurry, lambda: progress.print(greeting(plan, config.run_dir)))


def _keeper(config: RunConfig, endpoints: Endpoints, plan: ChildPlan, progress: Progress) -> Keeper:
    log = config.run_dir / f"{plan.role}.log"
    log.write_bytes(b"")
    child = Child(plan.command(), child_environment(os.environ), log)
    is_healthy = functools.partial(until_healthy, endpoints, plan.role, plan.grpc_address)
    return Keeper(plan.role, child, is_healthy, progress, config.start_timeout_s)
