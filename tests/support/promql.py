"""What expressions of Prometheus name, and whether a page of metrics has it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
_KEYWORDS = {"and", "or", "unless", "offset", "bool"}
# Prometheus adds them to whatever it scrapes.
TARGET_LABELS = {"instance", "job"}

_RANGE = re.compile(r"\[[^\]]*\]")
_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"(?<![\w:])([a-zA-Z_:][\w:]*)(?![\w:])(?:\s*\{([^}]*)\}|(?!\s*\())")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')


@dataclass(frozen=True)
class Selector:
    """The series that a part of an expression takes. `matchers`: label, operator, value."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]


class Page:
    """A page of metrics. A family without samples counts as there, with labels that nobody knows."""

    def __init__(self, text: str) -> None:
        self.samples: dict[str, list[Mapping[str, str]]] = {}
        for family in text_string_to_metric_families(text):
            for suffix in _SUFFIXES[family.type]:
                self.samples.setdefault(family.name + suffix, [])
            for sample in family.samples:
                self.samples[sample.name].append(sample.labels)

    def add(self, name: str, **labels: str) -> None:
        """Adds a sample of something that Prometheus makes itself."""
        self.samples.setdefault(name, []).append(labels)

    def labels(self, name: str) -> set[str]:
        """The labels that some sample of this name has."""
        return {label for labels in self.samples.get(name, ()) for label in labels}

    def values(self, name: str, label: str) -> set[str]:
        """The values of a label, an empty one for samples without it, as Prometheus sees it."""
        return {labels.get(label, "") for labels in self.samples.get(name, ())}


def selectors(expr: str) -> list[Selector]:
    """All selectors of an expression, from left to right."""
    plain = _GROUPING.sub(" ", _RANGE.sub(" ", expr))
    return [
        Selector(name, tuple(_MATCHER.findall(matchers)))
        for name, matchers in _SELECTOR.findall(plain)
        if name not in _KEYWORDS
    ]


def grouped(expr: str) -> set[str]:
    """The labels by which an expression groups or joins."""
    return {label.strip() for _, labels in _GROUPING.findall(expr) for label in labels.split(",")} - {""}


def kept(expr: str) -> set[str] | None:
    """The labels that its result has; None where it has those of its series."""
    found = re.search(r"\bby\s*\(([^)]*)\)", expr)
    if found is not None:
        return {label.strip() for label in found[1].split(",")}
    return set() if re.search(r"\b(sum|count|max|absent)\s*\(", expr) else None


def unknown(expr: str, page: Page, *, exact: bool) -> Iterator[str]:
    """Yields what an expression names and the page lacks. Families without samples have any label.

    `exact`: the page has all labels and values that there can be. Else the values of `le` alone are compared.
    """
    labels = set(TARGET_LABELS)
    for selector in selectors(expr):
        if selector.name not in page.samples or (exact and not page.samples[selector.name]):
            yield selector.name
        labels |= page.labels(selector.name)
        for label, operator, value in selector.matchers:
            if label in TARGET_LABELS or not page.samples.get(selector.name):
                continue
            if label not in page.labels(selector.name):
                yield f"{selector.name}{{{label}}}"
            elif exact or label == "le":
                values = page.values(selector.name, label)
                lacking = _plain(operator, value) - values
                yield from (f'{selector.name}{{{label}="{each}"}}' for each in sorted(lacking))
    if exact:
        yield from (f"grouping by {label}" for label in sorted(grouped(expr) - labels))


def _plain(operator: str, value: str) -> set[str]:
    """The values that a matcher names; none of those that it describes, as by `.+`."""
    if not value and operator == "!=":
        return set()
    named = value.split("|") if operator in ("=~", "!~") else [value]
    return {each for each in named if re.fullmatch(r"[\w.]*", each) and ".*" not in each}
