"""Resolves settings to one frozen dataclass per process. Flags > PERIGEE_* environment > file > default."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from services.common.errors import ConfigError
from services.common.setting_values import convert, flag_options

ENV_PREFIX = "PERIGEE_"

Config = TypeVar("Config")


def env_name(key: str) -> str:
    """Returns the environment variable of a field, e.g. PERIGEE_HTTP_PORT."""
    return ENV_PREFIX + key.upper()


def flag_name(key: str) -> str:
    """Returns the flag of a field, e.g. --http-port."""
    return "--" + key.replace("_", "-")


def resolve(
    cls: type[Config],
    flags: Mapping[str, object],
    env: Mapping[str, str],
    file: Mapping[str, object] | None = None,
) -> Config:
    """Returns an instance of the dataclass `cls`; a field set by no source keeps its default.

    `flags` and `file` are keyed by field name; texts are converted to the field's type. `env` is a whole
    environment: variables without a field are ignored, because they may be meant for other processes (see
    `check_environment`). Raises ConfigError naming the key and its source.
    """
    hints = get_type_hints(cls)
    keys = _keys(cls)
    values: dict[str, Any] = {}
    for source, given in (("the settings file", file or {}), ("flags", flags)):
        for key in given:
            if key not in keys:
                raise ConfigError(f"{key}: unknown setting in {source}{_hint(key, keys)}")
    for key in keys:
        if key in flags:
            values[key] = convert(key, flags[key], hints[key], flag_name(key))
        elif env_name(key) in env:
            values[key] = convert(key, env[env_name(key)], hints[key], env_name(key))
        elif file and key in file:
            values[key] = convert(key, file[key], hints[key], "the settings file")
    missing = [key for key in keys if key not in values and _required(cls, key)]
    if missing:
        raise ConfigError(f"{missing[0]}: not set; give {flag_name(missing[0])} or {env_name(missing[0])}")
    return cls(**values)


def check_environment(classes: Iterable[type[Any]], env: Mapping[str, str], also: Iterable[str] = ()) -> None:
    """Raises ConfigError for a PERIGEE_* variable that no class in `classes` has a field for.

    `also`: names of further variables that are allowed.
    """
    known = {env_name(key) for cls in classes for key in _keys(cls)} | set(also)
    for name in sorted(env):
        if name.startswith(ENV_PREFIX) and name not in known:
            raise ConfigError(f"{name}: unknown setting in the environment{_hint(name, known)}")


def read_file(path: Path, table: str, tables: Iterable[str]) -> Mapping[str, object]:
    """Returns the table of one role from a TOML file with a table per role; empty if the role has none.

    Raises ConfigError if the file cannot be read, is not TOML, or holds anything except `tables`.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"settings file {path}: {error}") from error
    known = set(tables)
    for name, content in document.items():
        if name not in known or not isinstance(content, dict):
            raise ConfigError(f"{name}: settings file {path} may only hold tables{_hint(name, known)}")
    found: dict[str, object] = document.get(table, {})
    return found


def add_flags(parser: argparse.ArgumentParser, cls: type[Any]) -> None:
    """Adds one flag per field of the dataclass `cls`; a flag not given is absent from the namespace."""
    hints = get_type_hints(cls)
    group = parser.add_argument_group(
        "settings (each is also a variable PERIGEE_… and a key of the settings file)"
    )
    for field in dataclasses.fields(cls):
        text = field.metadata.get("help", "").replace("%", "%%")
        if field.default is not dataclasses.MISSING and field.default is not None:
            default = ",".join(field.default) if isinstance(field.default, tuple) else str(field.default)
            text = f"{text} (default: {default or 'empty'})"
        group.add_argument(
            flag_name(field.name),
            dest=field.name,
            default=argparse.SUPPRESS,
            help=text.strip(),
            **flag_options(hints[field.name]),
        )


def flags_of(namespace: argparse.Namespace, cls: type[Any]) -> dict[str, object]:
    """Returns the command line's values for the fields of `cls`."""
    given = vars(namespace)
    return {key: given[key] for key in _keys(cls) if key in given}


def _keys(cls: type[Any]) -> list[str]:
    return [field.name for field in dataclasses.fields(cls) if field.init]


def _required(cls: type[Any], key: str) -> bool:
    field = next(field for field in dataclasses.fields(cls) if field.name == key)
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _hint(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(sorted(known))}"
