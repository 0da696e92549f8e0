"""The choice of a checkpoint's model profile: by setting, else by what the checkpoint shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.common.errors import ConfigError
from services.families.family import Family
from services.families.model_profile import ModelProfile

TEMPLATE_NAME = "chat_template.jinja"
# Published templates have some kilobytes.
_MOST_TEMPLATE_BYTES = 1 << 20
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


def _template(directory: Path) -> str | None:
    try:
        with (directory / TEMPLATE_NAME).open(encoding="utf-8", errors="replace") as file:
            return file.read(_MOST_TEMPLATE_BYTES)
    except OSError:
        return None


def _names(directory: Path) -> tuple[str, ...]:
    """Returns the directory's name as given, as resolved, and those of its parents."""
    resolved = directory.resolve()
    return (directory.name, resolved.name, *(parent.name for parent in list(resolved.parents)[:_PARENTS]))
