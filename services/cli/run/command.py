"""`perigee run`: runs the whole suite on this machine."""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TextIO, cast

from services.cli.placement.machine import Machine, this_machine
from services.cli.placement.placed import Placement, place, settled
from services.cli.placement.report import report
from services.cli.run.child import Child
from services.cli.run.greeting import greeting
from services.cli.run.keeper import Keeper
from services.cli.run.plan import WORKERS, ChildPlan, SuitePlan, child_environment, make_plan, pool_file
from services.cli.run.progress import Progress
from services.cli.run.readiness import until_healthy
from services.cli.run.role_settings import with_role_settings
from services.cli.run.stopping import Stopping, running_requests
from services.cli.run.successors import Instance, Successors
from services.cli.run.supervisor import Supervisor
from services.cli.run_config import RunConfig
from services.cli.run_directory.lock import held
from services.cli.run_directory.states import ServiceState, StateFile, SuiteState
from services.cli.setting_flags import flags_of
from services.cli.settings_source import Sources, add_setting_flags, add_suite_flags
from services.common.logs import LossyStream
from services.common.rpc.endpoints import Endpoints
from services.common.rpc.role import Role
from services.common.rpc.tls.security import Security
from services.common.settings import build

_EPILOG = (
    "Every setting of a service is also a flag --ROLE.SETTING, such as --decode.kv-pages 2048, and a variable"
    " PERIGEE_ROLE_SETTING, such as PERIGEE_DECODE_KV_PAGES; perigee ROLE --help lists them. perigee config"
    " show says what a suite would start with."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_dry_run(parser)
    add_setting_flags(parser, RunConfig)
    add_suite_flags(parser)
    parser.epilog = _EPILOG
    parser.set_defaults(execute=execute)


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    """Adds the flag --dry-run."""
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print what would start where, with memory and times; start nothing",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Resolves the settings and runs the suite."""
    sources = Sources.of(arguments, os.environ)
    config = build(RunConfig, sources.given(RunConfig, "run", flags_of(arguments, RunConfig)))
    return run_suite(config, sources, dry_run=arguments.dry_run)


def run_suite(config: RunConfig, sources: Sources, *, dry_run: bool = False) -> int:
    """Runs the suite until Ctrl-C or SIGTERM; a second one kills processes that have not stopped yet.

    `sources`: of the services' own settings. `dry_run`: only says what would start. Raises ConfigError, also
    if another suite uses `run_dir`.
    """
    machine = functools.cache(this_machine)
    if dry_run:
        print("\n".join(dry_lines(config, sources, machine)))
        return 0
    config = settled(config, sources, machine)
    security = _security(config)
    endpoints = Endpoints("operator", security)
    with held(config.run_dir), security.watching():
        plan, _ = placed_plan(config, endpoints, sources, machine)
        asyncio.run(_run(config, endpoints, plan, child_environment({**os.environ, **sources.levels})))
    return 0


def dry_lines(asked: RunConfig, sources: Sources, machine: Callable[[], Machine]) -> list[str]:
    """What would start where with these settings. Raises ConfigError where the start would."""
    config = settled(asked, sources, machine)
    endpoints = Endpoints("operator", Security.of(replace(config, tls_dir=""), "operator"))
    plan, placements = placed_plan(config, endpoints, sources, machine)
    arguments = {child.role: child.arguments for child in plan.children}
    return report(plan.model_name, arguments, placements, config, asked)


def placed_plan(
    config: RunConfig, endpoints: Endpoints, sources: Sources, machine: Callable[[], Machine]
) -> tuple[SuitePlan, dict[Role, Placement]]:
    """Plans the suite and chooses its workers' devices. Raises as `make_plan` and `place` do."""
    plan, roles = with_role_settings(make_plan(config, endpoints, sources.file), config, sources)
    workers = {role: settings for role, settings in roles.items() if role in WORKERS}
    placements = place(workers, Path(config.model), machine)
    return plan.with_arguments({role: it.arguments for role, it in placements.items()}), placements


def _security(config: RunConfig) -> Security:
    """Health checks are an operator's calls."""
    own = str(Path(config.tls_dir) / "operator") if config.tls_dir else ""
    return Security.of(replace(config, tls_dir=own), "operator")


async def _run(config: RunConfig, endpoints: Endpoints, plan: SuitePlan, env: Mapping[str, str]) -> None:
    """`env`: the services' environment."""
    progress = Progress(cast(TextIO, LossyStream(sys.stdout)), [child.role for child in plan.children])
    states = StateFile(config.run_dir, _first_state(config, plan))
    keepers = list(map(_Keepers(config, endpoints, plan, progress, states, env).make, plan.children))
    stop, hurry = asyncio.Event(), asyncio.Event()

    def signalled() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, signalled)
    progress.print(f"starting {plan.model_name} …")
    connected = functools.partial(until_healthy, endpoints, "gateway", plan.operator_address, "workers")
    requests = functools.partial(running_requests, endpoints, plan.operator_address)
    stopping = Stopping(keepers, progress, config.stop_timeout_seconds, requests, states.say)
    supervisor = Supervisor(keepers, progress, stopping, connected)
    try:
        await supervisor.run(stop, hurry, lambda: progress.print(greeting(plan, config.run_dir)))
    finally:
        states.close()


def _first_state(config: RunConfig, plan: SuitePlan) -> SuiteState:
    now = time.time()
    return SuiteState(
        pid=os.getpid(),
        model=plan.model_name,
        rest=f"{'https' if plan.public_tls_dir else 'http'}://{plan.rest_address}",
        grpc=plan.grpc_address,
        operator=plan.operator_address,
        since=now,
        stop_seconds=config.stop_timeout_seconds,
        start_seconds=float(config.start_timeout_seconds),
        services=tuple(
            ServiceState(child.role, address=child.grpc_address, since=now) for child in plan.children
        ),
    )


class _Keepers:
    """Makes the keepers of one suite."""

    def __init__(
        self,
        config: RunConfig,
        endpoints: Endpoints,
        plan: SuitePlan,
        progress: Progress,
        states: StateFile,
        env: Mapping[str, str],
    ) -> None:
        self._config = config
        self._endpoints = endpoints
        self._gateway = plan.children[-1].grpc_address
        self._progress = progress
        self._states = states
        self._env = env
        self._turn = asyncio.Lock()

    def make(self, plan: ChildPlan) -> Keeper:
        """Returns the keeper of a service, whose log is empty and, if a worker, whose pool lists it."""
        config = self._config
        self._log(plan).write_bytes(b"")
        first, successors = self._instance(plan), None
        if plan.role in WORKERS:
            successors = Successors(
                plan,
                self._instance,
                pool_file(config, plan.role),
                self._endpoints,
                self._gateway,
                self._turn,
                keep_ports=config.keep_ports,
            )
            successors.publish(first)
        times = float(config.start_timeout_seconds), config.stop_timeout_seconds
        return Keeper(plan.role, first, self._progress, *times, successors, record=self._states.record)

    def _instance(self, plan: ChildPlan) -> Instance:
        asks = plan.role in WORKERS
        child = Child(plan.command(), self._env, self._log(plan), asks=asks)
        is_healthy = functools.partial(until_healthy, self._endpoints, plan.role, plan.grpc_address)
        return Instance(child, plan.grpc_address, is_healthy)

    def _log(self, plan: ChildPlan) -> Path:
        return self._config.run_dir / f"{plan.role}.log"
