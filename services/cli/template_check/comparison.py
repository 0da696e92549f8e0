"""A checkpoint's own chat template, compared with what Perigee renders under each model profile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from services.cli.template_check.conversations import conversations
from services.cli.template_check.sandbox import Rendering, render_in_sandbox
from services.common.errors import CheckpointError, UnsupportedValue
from services.families.family import ChatFormat
from services.families.model_profile import ModelProfile
from services.families.profile_choice import (
    MOST_TEMPLATE_BYTES,
    TEMPLATE_NAME,
    ChosenProfile,
    choose_profile,
    read_template,
)
from services.families.registry import family_of_tokenizer
from services.gateway.http.bodies.chat import ChatBody
from services.gateway.http.bodies.to_request import prompt_from_body

_SWITCHES: tuple[dict[str, bool], ...] = (
    {},
    {"thinking": True},
    {"thinking": False},
    {"preserve_thinking": True},
    {"preserve_thinking": False},
    {"thinking": True, "preserve_thinking": True},
    {"thinking": False, "preserve_thinking": False},
)


@dataclass(frozen=True)
class Trial:
    """A conversation with switches of the template, and with or without the assistant's turn opened."""

    name: str
    body: Mapping[str, Any]
    switches: Mapping[str, bool]
    opened: bool = True

    def variables(self, chat: ChatFormat) -> dict[str, Any]:
        """Returns what the template is given."""
        return {
            "messages": self.body["messages"],
            "add_generation_prompt": self.opened,
            **chat.template_variables(self.body.get("tools", ())),
            **self.switches,
        }

    def expected(self, chat: ChatFormat, profile: ModelProfile) -> str | None:
        """Returns Perigee's prompt; None: the profile refuses such a chat."""
        switches = dict(self.switches)
        if profile.preserving == "never":
            # A template that does not know the variable ignores it.
            switches.pop("preserve_thinking", None)
        fields = {"chat_template_kwargs": switches, "add_generation_prompt": self.opened}
        body = msgspec.convert({**self.body, **fields}, ChatBody)
        try:
            return chat.render(prompt_from_body(body, profile).conversation).text
        except UnsupportedValue:
            return None

    def __str__(self) -> str:
        named = [f"{name}={str(value).lower()}" for name, value in self.switches.items()]
        return ", ".join((self.name, *named, *(() if self.opened else ("no turn opened",))))


@dataclass(frozen=True)
class Difference:
    """Where a template's prompt and Perigee's part: `at`, characters from the start."""

    trial: Trial
    at: int
    template: str
    perigee: str


@dataclass(frozen=True)
class Fit:
    """How a template compares under one profile: of `compared` prompts, `equal` are."""

    profile: ModelProfile
    compared: int
    equal: int
    first: Difference | None

    @property
    def fits(self) -> bool:
        """Whether all are equal."""
        return self.equal == self.compared


@dataclass(frozen=True)
class Verdict:
    """A fit for each profile of the family, and the profile by which the checkpoint would be served."""

    fits: tuple[Fit, ...]
    suggested: ChosenProfile


def compare_template(directory: Path) -> Verdict:
    """Compares the template in `directory`, which holds the tokenizer's files too.

    Raises CheckpointError for missing files and a template that cannot be run, ConfigError without jinja2.
    """
    family = family_of_tokenizer(directory)
    chat = family.open_chat(directory)
    template = _template(directory)
    trials = tuple(_trials())
    renderings = render_in_sandbox(template, [trial.variables(chat) for trial in trials])
    fits = (_fit(profile, chat, trials, renderings) for profile in family.profiles)
    return Verdict(tuple(fits), choose_profile(family, directory))


def _template(directory: Path) -> str:
    path = directory / TEMPLATE_NAME
    try:
        data = read_template(directory)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MOST_TEMPLATE_BYTES:
        raise CheckpointError(f"{path} is larger than {MOST_TEMPLATE_BYTES:,} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8: {error}") from error


def _trials() -> Iterator[Trial]:
    for name, body in conversations().items():
        for switches in _SWITCHES:
            yield Trial(name, body, switches)
        yield Trial(name, body, {}, opened=False)


def _fit(
    profile: ModelProfile, chat: ChatFormat, trials: Sequence[Trial], renderings: Sequence[Rendering]
) -> Fit:
    compared = equal = 0
    first: Difference | None = None
    for trial, rendering in zip(trials, renderings, strict=True):
        expected = trial.expected(chat, profile)
        if expected is None:
            continue
        compared += 1
        if rendering == Rendering(expected):
            equal += 1
        elif first is None:
            first = _difference(trial, rendering, expected)
    return Fit(profile, compared, equal, first)


def _difference(trial: Trial, rendering: Rendering, expected: str) -> Difference:
    if rendering.error:
        return Difference(trial, 0, rendering.error, expected)
    pairs = enumerate(zip(rendering.text, expected, strict=False))
    at = next((index for index, (a, b) in pairs if a != b), min(len(rendering.text), len(expected)))
    return Difference(trial, at, rendering.text, expected)
