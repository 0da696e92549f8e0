"""`perigee gateway|vision|prefill|decode`: runs one service in this process."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import functools
import gc
import os
import signal
from typing import TYPE_CHECKING, Any

import structlog
import uvloop

from services.cli.roles import ROLES, Serve, config_class, serve_function
from services.cli.run.handover import WorkersEnd
from services.cli.settings_source import add_setting_flags, log_level, resolve_settings
from services.common.errors import ConfigError, InvalidRequest
from services.common.logs import configure_logs
from services.common.parent_death import die_with_parent
from services.common.rpc.endpoints import Endpoints
from services.common.rpc.tls.security import Security
from services.common.rpc.tls.settings import is_loopback

if TYPE_CHECKING:
    from services.common.rpc.role import Role
    from services.gateway.config import GatewayConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments. The last word of `prog` is the role."""
    [role] = (role for role in ROLES if role == parser.prog.split()[-1])
    parser.add_argument("--log-level", help="DEBUG, INFO, WARNING or ERROR (or PERIGEE_LOG_LEVEL)")
    parser.add_argument("--die-with", type=int, metavar="PID", help=argparse.SUPPRESS)
    parser.add_argument("--handover", type=int, metavar="FD", help=argparse.SUPPRESS)
    add_setting_flags(parser, config_class(role))
    parser.set_defaults(execute=functools.partial(execute, role))


def execute(role: Role, arguments: argparse.Namespace) -> int:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends the process at once.

    With a --handover, `perigee run` decides after the first signal when to drain.
    """
    if arguments.die_with is not None:
        die_with_parent(arguments.die_with)
    handover = None if arguments.handover is None else WorkersEnd(arguments.handover)
    level = arguments.log_level or log_level(role, os.environ)
    try:
        configure_logs(level, role=role)
    except InvalidRequest as error:
        raise ConfigError(f"log_level: {error.message}") from error
    config = resolve_settings(config_class(role), role, arguments, os.environ)
    structlog.get_logger().info("configuration", **dataclasses.asdict(config))
    security = _security(role, config)
    # Import before handling signals: it takes seconds, and there is nothing to drain yet.
    serve = serve_function(role)
    if getattr(config, "processes", 1) > 1 and not getattr(config, "crew", ""):
        serve = functools.partial(_serve_processes, level)
    _collect_seldom()
    with security.watching(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_stopped(serve, config, Endpoints(role, security), handover))
    return 0


def _security(role: Role, config: Any) -> Security:
    """Reads the certificates, and logs what is served without any although other machines may reach it."""
    door_dir: str = getattr(config, "public_tls_dir", "")
    client_ca: str = getattr(config, "public_client_ca", "")
    security = Security.of(config, role, door_dir=door_dir, client_ca=client_ca)
    if security.peers is not None:
        structlog.get_logger().info("certificate", valid_until=security.peers.valid_until)
    plain = [] if config.tls_dir else ["services"]
    if role == "gateway" and not door_dir:
        plain.append("clients")
    if config.insecure and plain:
        structlog.get_logger().warning("insecure: plain TCP, anybody may connect", ports_for=",".join(plain))
    if role == "gateway" and not (is_loopback(config.host) or config.api_keys or client_ca):
        structlog.get_logger().warning(
            "no API keys: anybody who reaches this address may use the model; see --api-keys",
            address=config.host,
        )
    return security


async def _serve_processes(
    level: str, config: GatewayConfig, endpoints: Endpoints, stop: asyncio.Event
) -> None:
    # Imported here: images of the other roles lack the gateway's dependencies.
    from services.cli.gateway_processes import serve_processes

    await serve_processes(config, endpoints, level, stop)


def _collect_seldom() -> None:
    """Makes garbage collection rare: imported objects live forever, and requests create few cycles.

    With the default thresholds, collection took a fifth of the time of a token. But requests that fail over
    gRPC leave cycles, and to free 50,000 objects at once took up to 90 ms, in which nobody was served.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 20, 200)


async def _until_stopped(
    serve: Serve, config: object, endpoints: Endpoints, handover: WorkersEnd | None
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if handover is not None:
        handover.on_answer(stop.set)

    def stopped() -> None:
        if handover is None:
            stop.set()
        else:
            structlog.get_logger().info("asked to end", next="perigee run says when")
            handover.ask()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped)
    await serve(config, endpoints, stop)
