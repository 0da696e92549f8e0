"""Resolves and checks the services' own settings before `perigee run` starts them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from services.cli.roles import config_class
from services.cli.run.plan import ChildPlan, SuitePlan
from services.cli.run_config import RunConfig
from services.cli.settings_source import Sources
from services.common.errors import ConfigError
from services.common.graces import GATEWAY_CLOSE_S, WORKER_CLOSE_S
from services.common.rpc.role import Role
from services.common.rpc.tls.settings import is_loopback
from services.common.setting_ranges import AUTO
from services.common.settings import FILE, Given, build, env_name, flag_name

_INSTEAD = {"port": "port_base", "metrics_port": "metrics_port_base"}
DECIDED = "perigee run"
"""The source of settings that the plan sets."""
_OWN = {field.name for field in fields(RunConfig)}


def with_role_settings(
    plan: SuitePlan, config: RunConfig, sources: Sources
) -> tuple[SuitePlan, dict[Role, Any]]:
    """Returns the plan with what only the roles' own settings say (names, and arguments for --ROLE.SETTING),
    and these settings by role. Raises as `resolved_role` does.
    """
    roles = {child.role: resolved_role(child, config, sources) for child in plan.children}
    gateway = roles["gateway"]
    names: tuple[str, ...] = gateway.served_names or (plan.model_name,)
    keyless = not (is_loopback(gateway.host) or gateway.api_keys or gateway.public_client_ca)
    plan = replace(plan, model_name=names[0], public_tls_dir=gateway.public_tls_dir, keyless=keyless)
    words = {role: tuple(_words(given)) for role, given in sources.of_roles.items()}
    return plan.with_arguments(words), roles


def resolved_role(child: ChildPlan, config: RunConfig, sources: Sources) -> Any:
    """Returns the configuration with which this service will start.

    Raises ConfigError for a setting that the service would refuse, for one in `sources` that the plan
    overrides with another value, and if `stop_timeout_seconds` does not exceed `grace_seconds` by the time
    that closing takes.
    """
    cls = config_class(child.role)
    given = sources.given(cls, child.role)
    decided = {key: Given(value, DECIDED) for key, value in decided_settings(child).items()}
    for key, (value, _) in decided.items():
        # A variable of the suite itself has had its effect on the plan.
        if key in given and not (given[key].source == env_name(key) and key in _OWN):
            _check_same(child.role, key, given[key], value)
    found = build(cls, given | decided)
    if found.tls_dir and not config.tls_dir:
        raise ConfigError(f"[{child.role}] tls_dir: set [run] tls_dir or --tls-dir, for all services")
    closing_s = WORKER_CLOSE_S + (GATEWAY_CLOSE_S if child.role == "gateway" else 0.0)
    if found.grace_seconds + closing_s > config.stop_timeout_seconds:
        raise ConfigError(
            f"stop_timeout_seconds: must exceed the grace_seconds of {child.role}, {found.grace_seconds:g},"
            f" by {closing_s:g} at least, is {config.stop_timeout_seconds:g}: the service would be killed"
            " within its grace period"
        )
    return found


def decided_settings(child: ChildPlan) -> dict[str, object]:
    """Returns the settings that the plan sets, by name."""
    words = child.arguments[1:]
    found: dict[str, object] = {
        flag.removeprefix("--").replace("-", "_"): True if value.startswith("--") else value
        for flag, value in zip(words, (*words[1:], "--"), strict=True)
        if flag.startswith("--")
    }
    found.pop("config", None)
    return found


def _words(given: Mapping[str, object]) -> Iterator[str]:
    """Yields the arguments of a service's own command line for these settings."""
    for name, value in given.items():
        if isinstance(value, bool):
            yield flag_name(name if value else f"no_{name}")
        else:
            yield f"{flag_name(name)}={value}"


def _check_same(role: Role, key: str, given: Given, decided: object) -> None:
    """Raises ConfigError if a given value differs from the plan's. Port 0 (any) equals every port, and
    auto every value.
    """
    value, source = given
    # Where a setting leaves the choice to the machine, the plan has made it.
    same = str(value) in (AUTO, str(decided), *(("0",) if key.endswith("port") else ()))
    if same or (key == "model" and Path(str(value)).resolve() == Path(str(decided)).resolve()):
        return
    what = f"[{role}] {key}" if source == FILE else source
    instead = _INSTEAD.get(key, key)
    advice = f"set [run] {instead} or {flag_name(instead)}" if instead in _OWN else "leave it out"
    raise ConfigError(
        f"{what} = {value}: would have no effect, because perigee run sets {key} itself ({decided}); {advice}"
    )
