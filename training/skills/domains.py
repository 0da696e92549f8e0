"""The subjects of tools, with wordings for names, descriptions and requests, from domains.txt beside this
file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Parameter:
    """A parameter of a tool. `names` lists its possible names, space-separated; `kind` is the kind of its
    values, see toolbox.py.
    """

    names: str
    kind: str
    description: str


@dataclass(frozen=True)
class Domain:
    """A subject of tools. `topic` is its name in reasoning; `verbs` and `nouns` are parts of tool names,
    space-separated. `requests` are wordings with a field {0}, {1}, ... for each parameter's value. `setting`
    holds the name of an optional parameter and its possible values, if there is one.
    """

    topic: str
    verbs: str
    nouns: str
    descriptions: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    requests: tuple[str, ...]
    setting: tuple[str, ...] = ()


def load_domains() -> tuple[Domain, ...]:
    """All domains of the file; the first is the weather."""
    text = Path(__file__).with_name("domains.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return tuple(_read(block.splitlines()) for block in "\n".join(lines).strip().split("\n\n"))


def _read(lines: list[str]) -> Domain:
    found: dict[str, list[str]] = {}
    for line in lines:
        key, _, value = line.partition(" ")
        found.setdefault(key, []).append(value)
    return Domain(
        topic=found["topic"][0],
        verbs=found["verbs"][0],
        nouns=found["nouns"][0],
        descriptions=tuple(found["about"]),
        parameters=tuple(map(_parameter, found["parameter"])),
        requests=tuple(found["ask"]),
        setting=tuple(found.get("setting", [""])[0].split()),
    )


def _parameter(text: str) -> Parameter:
    head, _, description = text.partition(": ")
    kind, _, names = head.partition(" ")
    return Parameter(names, kind, description)
