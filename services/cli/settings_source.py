"""Where settings come from: flags, variables and the settings file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from services.cli.roles import ROLES, config_class
from services.cli.run_config import RunConfig
from services.cli.setting_flags import add_flags, add_role_flags, flags_of
from services.common.errors import ConfigError, InvalidRequest
from services.common.logs import level_name
from services.common.rpc.role import Role
from services.common.settings import (
    Given,
    build,
    check_environment,
    env_name,
    flag_name,
    given_by_flags,
    given_settings,
    read_file,
)

# Variables without a configuration field: two of this command, one of the tests.
_ALSO = ("PERIGEE_CONFIG", "PERIGEE_API_KEY", "PERIGEE_SHARED")
_LOG_LEVEL = "log_level"
_LEVEL_VARIABLES = {env_name(_LOG_LEVEL, role): flag_name(_LOG_LEVEL, role) for role in ("", *ROLES)}
TABLES = ("run", *ROLES)

Config = TypeVar("Config")


@dataclass(frozen=True)
class Sources:
    """An environment, a settings file, and the flags --ROLE.SETTING of a suite, by role.

    `levels`: variables with the log levels that flags of the suite name.
    """

    env: Mapping[str, str]
    file: str | None = None
    of_roles: Mapping[Role, Mapping[str, object]] = field(default_factory=dict)
    levels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, arguments: argparse.Namespace, env: Mapping[str, str]) -> Sources:
        """Raises ConfigError for a variable PERIGEE_… that no setting has, and for an unknown log level."""
        also = (*_ALSO, *_LEVEL_VARIABLES)
        check_environment([RunConfig], env, also, {role: config_class(role) for role in ROLES})
        of_roles = {role: flags_of(arguments, config_class(role), role) for role in ROLES}
        levels = {
            variable: _checked_level(flag, given)
            for variable, flag in _LEVEL_VARIABLES.items()
            if (given := getattr(arguments, variable, None)) is not None
        }
        for variable in _LEVEL_VARIABLES:
            # Commands that start a suite have these flags: its services would all refuse to start.
            if hasattr(arguments, variable) and env.get(variable):
                _checked_level(variable, env[variable])
        return cls(env, arguments.config or env.get("PERIGEE_CONFIG") or None, of_roles, levels)

    def given(
        self, cls: type[object], table: str, flags: Mapping[str, object] | None = None
    ) -> dict[str, Given]:
        """Returns what is set of one role or, as table "run", of the suite. Raises ConfigError for an unknown
        key.
        """
        role = next((role for role in ROLES if role == table), None)
        file = read_file(Path(self.file), table, TABLES) if self.file else None
        given = given_settings(cls, flags or {}, self.env, file, role or "")
        return given | (given_by_flags(cls, self.of_roles.get(role, {}), role) if role else {})


def add_setting_flags(parser: argparse.ArgumentParser, cls: type[object]) -> None:
    """Adds the flags of `cls`, and --config."""
    parser.add_argument(
        "--config", metavar="FILE", help="TOML file with one table per service (or PERIGEE_CONFIG)"
    )
    add_flags(parser, cls)


def add_suite_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --log-level, and the flags --ROLE.SETTING of all roles, hidden because they are many."""
    for variable, flag in _LEVEL_VARIABLES.items():
        shown = f"of all services: DEBUG, INFO, WARNING or ERROR (or {variable})"
        text = argparse.SUPPRESS if "." in flag else shown
        parser.add_argument(flag, dest=variable, metavar="LEVEL", help=text)
    for role in ROLES:
        add_role_flags(parser, role, config_class(role))


def log_level(role: Role, env: Mapping[str, str]) -> str:
    """Returns the log level that an environment names for a role."""
    own, common = env_name(_LOG_LEVEL, role), env_name(_LOG_LEVEL)
    return env.get(own) or env.get(common) or "INFO"


def _checked_level(source: str, given: str) -> str:
    try:
        return level_name(given)
    except InvalidRequest as error:
        raise ConfigError(f"{source}: {error.message}") from None


def resolve_settings(
    cls: type[Config], table: str, arguments: argparse.Namespace, env: Mapping[str, str]
) -> Config:
    """Returns the configuration of one role (or of `run`). Raises ConfigError naming key and source."""
    return build(cls, Sources.of(arguments, env).given(cls, table, flags_of(arguments, cls)))
