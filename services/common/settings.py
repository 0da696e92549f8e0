"""Resolves settings to one frozen dataclass per process. Flags > PERIGEE_* environment > file > default."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, get_type_hints

from services.common.errors import ConfigError
from services.common.setting_values import convert, scaled

ENV_PREFIX = "PERIGEE_"
FILE = "the settings file"
FORMERLY = "formerly"
"""Key of a field's metadata: further names of the setting, each with the factor of its values, e.g.
{"hold_ms": 0.001}."""
INTERNAL = "internal"
"""Key of a field's metadata: True if one process of Perigee sets it for another. No help names it."""
# More names than these nobody reads.
_MOST_KNOWN = 12

Config = TypeVar("Config")


class Given(NamedTuple):
    """A setting's value as it was given, and where, e.g. "--port" or "PERIGEE_PORT"."""

    value: object
    source: str


def env_name(key: str, role: str = "") -> str:
    """Returns the variable of a field, e.g. PERIGEE_KV_PAGES, or for one role PERIGEE_DECODE_KV_PAGES."""
    return ENV_PREFIX + f"{role}_{key}".lstrip("_").upper()


def flag_name(key: str, role: str = "") -> str:
    """Returns the flag of a field, e.g. --kv-pages, or for one role of a suite --decode.kv-pages."""
    return "--" + f"{role}.{key}".lstrip(".").replace("_", "-")


def resolve(
    cls: type[Config],
    flags: Mapping[str, object],
    env: Mapping[str, str],
    file: Mapping[str, object] | None = None,
    role: str = "",
) -> Config:
    """Returns an instance of the dataclass `cls`; a field set by no source keeps its default. Arguments and
    errors are those of `given_settings` and `build`.
    """
    return build(cls, given_settings(cls, flags, env, file, role))


def given_settings(
    cls: type[Any],
    flags: Mapping[str, object],
    env: Mapping[str, str],
    file: Mapping[str, object] | None = None,
    role: str = "",
) -> dict[str, Given]:
    """Returns what the sources set, by field: of each the value that wins.

    `flags` and `file` are keyed by field name. `env` is a whole environment: variables without a field are
    ignored, because they may be meant for other processes (see `check_environment`). With a `role`, its own
    variables (PERIGEE_DECODE_KV_PAGES) win over those of all. Raises ConfigError for an unknown key, and for
    one given twice in the same source by two of its names.
    """
    given: dict[str, Given] = {}
    names = _names(cls)
    own, common = (
        {name: env[variable] for name in names if (variable := env_name(name, each)) in env}
        for each in (role, "")
    )
    given |= _by_field(cls, file or {}, lambda key: FILE)
    given |= _by_field(cls, common, env_name)
    if role:
        given |= _by_field(cls, own, lambda key: env_name(key, role))
    return given | given_by_flags(cls, flags)


def given_by_flags(cls: type[Any], flags: Mapping[str, object], role: str = "") -> dict[str, Given]:
    """Returns what flags set, by field; with a `role`, flags such as --decode.kv-pages. Raises as
    `given_settings` does.
    """
    return _by_field(cls, flags, lambda key: flag_name(key, role))


def build(cls: type[Config], given: Mapping[str, Given]) -> Config:
    """Returns an instance of the dataclass `cls` with these values, texts converted to the fields' types.

    Raises ConfigError naming the key and, if it was given, its source.
    """
    hints = get_type_hints(cls)
    values: dict[str, Any] = {
        key: convert(key, value, hints[key], source) for key, (value, source) in given.items()
    }
    missing = [key for key in _keys(cls) if key not in values and _required(cls, key)]
    if missing:
        raise ConfigError(f"{missing[0]}: not set; give {flag_name(missing[0])} or {env_name(missing[0])}")
    try:
        return cls(**values)
    except ConfigError as error:
        key = error.message.partition(":")[0]
        if key not in given:
            raise
        raise ConfigError(f"{error.message} (from {given[key].source})") from None


def check_environment(
    classes: Iterable[type[Any]],
    env: Mapping[str, str],
    also: Iterable[str] = (),
    roles: Mapping[str, type[Any]] = MappingProxyType({}),
) -> None:
    """Raises ConfigError for a PERIGEE_* variable that no class in `classes` has a field for, nor with the
    name of a role the class of that role in `roles`.

    `also`: names of further variables that are allowed.
    """
    known = {env_name(key) for cls in (*classes, *roles.values()) for key in _names(cls)} | set(also)
    known |= {env_name(key, role) for role, cls in roles.items() for key in _names(cls)}
    for name in sorted(env):
        if name.startswith(ENV_PREFIX) and name not in known:
            raise ConfigError(f"{name}: unknown setting in the environment{did_you_mean(name, known)}")


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
            raise ConfigError(f"{name}: settings file {path} may only hold tables{did_you_mean(name, known)}")
    found: dict[str, object] = document.get(table, {})
    return found


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns the end of an error about an unknown name: the nearest of the known ones, or a few of them
    all; empty if none is near and there are many.
    """
    known = sorted(known)
    if close := difflib.get_close_matches(name, known, n=1):
        return f"; did you mean {close[0]}?"
    return f"; known: {', '.join(known)}" if len(known) <= _MOST_KNOWN else ""


def _by_field(cls: type[Any], values: Mapping[str, object], source_of: Any) -> dict[str, Given]:
    """Returns the values by field, converted if they came by a former name."""
    names = _names(cls)
    given: dict[str, Given] = {}
    spelt: dict[str, str] = {}
    for name, value in values.items():
        source = source_of(name)
        if name not in names:
            where = FILE if source == FILE else "flags"
            raise ConfigError(f"{name}: unknown setting in {where}{did_you_mean(name, names)}")
        key, factor = names[name]
        if key in given:
            raise ConfigError(f"{name} and {spelt[key]} are the same setting; give one of them")
        spelt[key] = name
        given[key] = Given(value if factor == 1 else scaled(name, value, factor, source), source)
    return given


def _names(cls: type[Any]) -> dict[str, tuple[str, float]]:
    """Returns the field of each name, present or former, and the factor of values given by that name."""
    found = {key: (key, 1.0) for key in _keys(cls)}
    return found | {name: (key, factor) for key, name, factor in former_names(cls)}


def former_names(cls: type[Any]) -> Iterator[tuple[str, str, float]]:
    """Yields each former name of a field: the field, the name, and the factor of its values."""
    for field in dataclasses.fields(cls):
        for name, factor in field.metadata.get(FORMERLY, {}).items():
            yield field.name, name, factor


def _keys(cls: type[Any]) -> list[str]:
    return [field.name for field in dataclasses.fields(cls) if field.init]


def _required(cls: type[Any], key: str) -> bool:
    field = next(field for field in dataclasses.fields(cls) if field.name == key)
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
