"""`perigee config show`: each setting's value and where it comes from."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from services.cli.roles import ROLES, config_class
from services.cli.run.plan import make_plan
from services.cli.run.role_settings import decided_settings, resolved_role
from services.cli.run_config import PORTS, RunConfig
from services.cli.setting_flags import flags_of
from services.cli.settings_source import TABLES, Sources, add_setting_flags, add_suite_flags
from services.common.errors import ConfigError
from services.common.rpc.endpoints import Endpoints
from services.common.rpc.tls.security import Security
from services.common.settings import INTERNAL, Given, build, did_you_mean

_DESCRIPTION = """\
Shows the settings with which `perigee run` would start a suite, each with where its value comes from: a
flag, a variable, the settings file, or the default. Takes the flags of `perigee run`. What it prints is a
settings file. What perigee run sets itself for a service, such as ports and pools, is left out.
"""
_DEFAULT = "default"
_WIDEST = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommands."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser(
        "show", help="show each setting's value and where it comes from", description=_DESCRIPTION
    )
    show.add_argument(
        "tables",
        nargs="*",
        metavar="TABLE",
        help=f"of these alone: run, {', '.join(ROLES)} (default: all)",
    )
    show.add_argument("--diff", action="store_true", help="only what differs from the default")
    show.add_argument("--json", action="store_true", help="as JSON: by table and setting, value and source")
    add_setting_flags(show, RunConfig)
    add_suite_flags(show)
    show.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Prints the settings. Raises ConfigError where `perigee run` would."""
    sources = Sources.of(arguments, os.environ)
    tables = settings_by_table(sources, flags_of(arguments, RunConfig), diff=arguments.diff)
    asked = arguments.tables or list(tables)
    if unknown := [name for name in asked if name not in TABLES]:
        raise ConfigError(f"{unknown[0]}: no table of settings{did_you_mean(unknown[0], TABLES)}")
    shown = {name: table for name, table in tables.items() if name in asked and table}
    if arguments.json:
        print(json.dumps({name: _as_json(table) for name, table in shown.items()}, indent=2))
    else:
        texts = ["\n".join(_as_toml(name, table)) for name, table in shown.items()]
        print("\n\n".join(texts or ["# every setting is as by default"]))
    return 0


def settings_by_table(
    sources: Sources, flags: Mapping[str, object], *, diff: bool
) -> dict[str, dict[str, Given]]:
    """Returns, for the suite ("run") and each role that it would start, every setting that people set: its
    value, and where it comes from. `diff`: without those that are as by default.
    """
    given = sources.given(RunConfig, "run", flags)
    config = build(RunConfig, given)
    tables = {"run": _settings(config, given, diff=diff)}
    # With free ports: a suite may be running.
    ports: dict[str, Any] = dict.fromkeys((key for key, _ in PORTS), 0)
    free = dataclasses.replace(config, **ports)
    endpoints = Endpoints("operator", Security.of(dataclasses.replace(config, tls_dir=""), "operator"))
    for child in make_plan(free, endpoints, sources.file).children:
        own, decided = sources.given(config_class(child.role), child.role), decided_settings(child)
        settings = _settings(resolved_role(child, config, sources), own, diff=diff)
        tables[child.role] = {key: value for key, value in settings.items() if key not in decided}
    return tables


def _settings(config: Any, given: Mapping[str, Given], *, diff: bool) -> dict[str, Given]:
    found = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if not field.metadata.get(INTERNAL) and not (diff and value == field.default):
            source = given[field.name].source if field.name in given else _DEFAULT
            found[field.name] = Given(value, source)
    return found


def _as_json(table: Mapping[str, Given]) -> dict[str, dict[str, object]]:
    return {
        key: {"value": str(value) if isinstance(value, Path) else value, "source": source}
        for key, (value, source) in table.items()
    }


def _as_toml(name: str, table: Mapping[str, Given]) -> Iterator[str]:
    """Yields the lines of a table, values in front and sources behind them."""
    yield f"[{name}]"
    lines = {key: f"{key} = {_toml(value)}" for key, (value, _) in table.items() if value is not None}
    width = min(_WIDEST, max(map(len, lines.values()), default=0))
    for key, (_, source) in table.items():
        yield f"{lines[key]:<{width}}  # {source}" if key in lines else f"# {key} is not set"


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    # Texts of JSON, booleans and numbers are those of TOML too.
    return json.dumps(str(value) if isinstance(value, Path) else value)
