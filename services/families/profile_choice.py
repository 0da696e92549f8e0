"""The choice of a checkpoint's model profile: by setting, else by what the checkpoint shows."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.common.errors import ConfigError
from services.families.family import Family
from services.families.model_profile import ModelProfile

TEMPLATE_NAME = "chat_template.jinja"
MOST_TEMPLATE_BYTES = 1 << 20
"""Published templates have some kilobytes."""
# A download cache keeps a checkpoint as models--OWNER--NAME/snapshots/REVISION.
_PARENTS = 2


@dataclass(frozen=True)
class ChosenProfile:
    """A profile, and why it was chosen, as a phrase for a log."""

    profile: ModelProfile
    because: str


def find_profile(family: Family, name: str) -> ModelProfile:
    """Returns the profile of that name. Raises ConfigError that lists the family's names."""
    for profile in family.profiles:
        if profile.name == name:
            return profile
    known = ", ".join(profile.name for profile in family.profiles)
    raise ConfigError(f"model_profile: {name!r} is not one of {known}")


def choose_profile(
    family: Family, directory: Path, served_names: Sequence[str] = (), setting: str = ""
) -> ChosenProfile:
    """Returns the profile that `setting` names; if it is empty, the one that the checkpoint in `directory`
    suggests by its template, its directory's names, and then the served names.

    The template is read as text, and never run. Raises ConfigError for an unknown name.
    """
    if setting:
        return ChosenProfile(find_profile(family, setting), "the setting model_profile says so")
    if family.suggest_profile is None:
        return ChosenProfile(family.profiles[0], "the family has no other")
    suggestion = family.suggest_profile(_template(directory), (*_names(directory), *served_names))
    return ChosenProfile(find_profile(family, suggestion.name), suggestion.because)


def read_template(directory: Path) -> bytes:
    """Returns the checkpoint's template, of one that is too large the first MOST_TEMPLATE_BYTES + 1 bytes.

    Raises OSError, also for what is no regular file: a pipe's end may never come.
    """
    path = directory / TEMPLATE_NAME
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "Not a regular file")
    with path.open("rb") as file:
        return file.read(MOST_TEMPLATE_BYTES + 1)


def _template(directory: Path) -> str | None:
    try:
        return read_template(directory)[:MOST_TEMPLATE_BYTES].decode(errors="replace")
    except OSError:
        return None


def _names(directory: Path) -> tuple[str, ...]:
    """Returns the directory's name as given, as resolved, and those of its parents."""
    resolved = directory.resolve()
    return (directory.name, resolved.name, *(parent.name for parent in list(resolved.parents)[:_PARENTS]))
