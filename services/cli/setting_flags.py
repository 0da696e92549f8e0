"""Flags of settings: one per field of a dataclass."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any, get_type_hints

from services.common.setting_values import flag_options
from services.common.settings import INTERNAL, flag_name, former_names

_HEADING = "settings (each is also a variable PERIGEE_… and a key of the settings file)"


def add_flags(parser: argparse.ArgumentParser, cls: type[Any]) -> None:
    """Adds one flag per field of the dataclass `cls`, and hidden ones with former names; a flag not given is
    absent from the namespace.
    """
    hints = get_type_hints(cls)
    group = parser.add_argument_group(_HEADING)
    for field in dataclasses.fields(cls):
        _add(group, field.name, hints[field.name], _help(field))
    for key, name, _ in former_names(cls):
        _add(group, name, hints[key], argparse.SUPPRESS)


def add_role_flags(parser: argparse.ArgumentParser, role: str, cls: type[Any]) -> None:
    """Adds a hidden flag --ROLE.SETTING per field of the dataclass `cls`."""
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if not field.metadata.get(INTERNAL):
            _add(parser, field.name, hints[field.name], argparse.SUPPRESS, role)


def flags_of(namespace: argparse.Namespace, cls: type[Any], role: str = "") -> dict[str, object]:
    """Returns the command line's values for the fields of `cls`, by the names they were given by; with a
    `role`, those of the flags --ROLE.SETTING.
    """
    given = vars(namespace)
    names = [*(field.name for field in dataclasses.fields(cls)), *(name for _, name, _ in former_names(cls))]
    return {name: given[dest] for name in names if (dest := _dest(name, role)) in given}


def _add(group: Any, name: str, hint: Any, text: str, role: str = "") -> None:
    flag, options = flag_name(name, role), flag_options(hint)
    if options.get("action") is argparse.BooleanOptionalAction and role:
        # BooleanOptionalAction would make --no-decode.NAME of it.
        options = {"action": "store_const", "const": True}
        opposite = flag_name(f"no_{name}", role)
        group.add_argument(
            opposite, dest=_dest(name, role), default=argparse.SUPPRESS, help=text, action="store_const",
            const=False,
        )  # fmt: skip
    group.add_argument(flag, dest=_dest(name, role), default=argparse.SUPPRESS, help=text, **options)


def _dest(name: str, role: str) -> str:
    return f"{role}.{name}" if role else name


def _help(field: dataclasses.Field[Any]) -> str:
    if field.metadata.get(INTERNAL):
        return argparse.SUPPRESS
    text: str = field.metadata.get("help", "").replace("%", "%%")
    if field.default is not dataclasses.MISSING and field.default is not None:
        default = ",".join(field.default) if isinstance(field.default, tuple) else str(field.default)
        text = f"{text} (default: {default or 'empty'})"
    return text.strip()
