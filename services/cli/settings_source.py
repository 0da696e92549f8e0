"""Resolves one role's configuration from the command line, environment and settings file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from services.cli.roles import ROLES, config_class
from services.cli.run_config import RunConfig
from services.common.settings import add_flags, check_environment, flags_of, read_file, resolve

# Variables without a configuration field: three of this command, one of the tests.
_ALSO = ("PERIGEE_CONFIG", "PERIGEE_LOG_LEVEL", "PERIGEE_API_KEY", "PERIGEE_SHARED")
TABLES = ("run", *ROLES)

Config = TypeVar("Config")


def add_setting_flags(parser: argparse.ArgumentParser, cls: type[object]) -> None:
    """Adds the flags of `cls`, and --config."""
    parser.add_argument(
        "--config", metavar="FILE", help="TOML file with one table per service (or PERIGEE_CONFIG)"
    )
    add_flags(parser, cls)


def settings_file(arguments: argparse.Namespace, env: Mapping[str, str]) -> str | None:
    """Returns the settings file given by flag or environment, if any."""
    named: str | None = arguments.config
    return named or env.get("PERIGEE_CONFIG") or None


def resolve_settings(
    cls: type[Config], table: str, arguments: argparse.Namespace, env: Mapping[str, str]
) -> Config:
    """Returns the configuration of one role (or of `run`). Raises ConfigError naming key and source."""
    check_environment([RunConfig, *(config_class(role) for role in ROLES)], env, also=_ALSO)
    path = settings_file(arguments, env)
    file = read_file(Path(path), table, TABLES) if path else None
    return resolve(cls, flags_of(arguments, cls), env, file)
