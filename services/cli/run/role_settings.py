"""Resolves and checks the services' own settings before `perigee run` starts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from services.cli.roles import config_class
from services.cli.run.plan import ChildPlan, SuitePlan
from services.cli.run_config import RunConfig
from services.cli.settings_source import TABLES
from services.common.errors import ConfigError
from services.common.graces import GATEWAY_CLOSE_S, WORKER_CLOSE_S
from services.common.setting_ranges import AUTO
from services.common.settings import env_name, flag_name, read_file, resolve

_INSTEAD = {"port": "port_base", "metrics_port": "metrics_port_base"}
_OWN = {field.name for field in fields(RunConfig)}


def with_role_settings(
    plan: SuitePlan, config: RunConfig, file: str | None, env: Mapping[str, str]
) -> SuitePlan:
    """Returns the plan with what only the gateway's settings know. Raises as `resolved_role` does."""
    roles = {child.role: resolved_role(child, config, file, env) for child in plan.children}
    gateway = roles["gateway"]
    names: tuple[str, ...] = gateway.served_names or (plan.model_name,)
    return replace(plan, model_name=names[0], public_tls_dir=gateway.public_tls_dir)


def resolved_role(child: ChildPlan, config: RunConfig, file: str | None, env: Mapping[str, str]) -> Any:
    """Returns the configuration with which this service will start.

    Raises ConfigError for a setting that the service would refuse, for one in `file` or `env` that the plan
    overrides with another value, and if `stop_timeout_s` does not exceed `grace_seconds` by the time that
    closing takes.
    """
    flags = _flags(child)
    table = read_file(Path(file), child.role, TABLES) if file else {}
    for key, decided in flags.items():
        if key in table:
            _check_same(f"[{child.role}] {key}", key, table[key], decided)
        if env_name(key) in env and key not in _OWN:
            _check_same(env_name(key), key, env[env_name(key)], decided)
    found = resolve(config_class(child.role), flags, env, table)
    if found.tls_dir and not config.tls_dir:
        raise ConfigError(f"[{child.role}] tls_dir: set [run] tls_dir or --tls-dir, for all services")
    closing_s = WORKER_CLOSE_S + (GATEWAY_CLOSE_S if child.role == "gateway" else 0.0)
    if found.grace_seconds + closing_s > config.stop_timeout_s:
        raise ConfigError(
            f"stop_timeout_s: must exceed the grace_seconds of {child.role}, {found.grace_seconds:g}, by"
            f" {closing_s:g} at least, is {config.stop_timeout_s:g}: the service would be killed within its"
            " grace period"
        )
    return found


def _flags(child: ChildPlan) -> dict[str, object]:
    """Returns the settings that the plan sets, by name."""
    words = child.arguments[1:]
    found: dict[str, object] = {
        flag.removeprefix("--").replace("-", "_"): True if value.startswith("--") else value
        for flag, value in zip(words, (*words[1:], "--"), strict=True)
        if flag.startswith("--")
    }
    found.pop("config", None)
    return found


def _check_same(what: str, key: str, given: object, decided: object) -> None:
    """Raises ConfigError if a given value differs from the plan's. Port 0 (any) equals every port, and
    auto every value.
    """
    # Where a setting leaves the choice to the machine, the plan has made it.
    same = str(given) in (AUTO, str(decided), *(("0",) if key.endswith("port") else ()))
    if same or (key == "model" and Path(str(given)).resolve() == Path(str(decided)).resolve()):
        return
    instead = _INSTEAD.get(key, key)
    advice = f"set [run] {instead} or {flag_name(instead)}" if instead in _OWN else "leave it out"
    raise ConfigError(
        f"{what} = {given}: would have no effect, because perigee run sets {key} itself ({decided}); {advice}"
    )
