"""The expressions of monitoring/: rules and dashboards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MONITORING = Path(__file__).parents[2] / "monitoring"


@dataclass(frozen=True)
class Expression:
    """`where`: its alert, or its dashboard and panel. `shown`: the labels that its texts show."""

    where: str
    expr: str
    shown: frozenset[str] = frozenset()


def rules() -> list[dict[str, Any]]:
    """All rules, in their order."""
    groups = yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """The rules that are alerts."""
    return [rule for rule in rules() if "alert" in rule]


def recorded() -> set[str]:
    """The names of the series that rules record."""
    return {rule["record"] for rule in rules() if "record" in rule}


def dashboards() -> dict[str, dict[str, Any]]:
    """The dashboards, by file name."""
    return {path.name: json.loads(path.read_text()) for path in (MONITORING / "dashboards").glob("*.json")}


def panels() -> list[tuple[str, str]]:
    """Title and expression of everything that dashboards draw, over ten seconds and for all workers."""
    return [
        (panel["title"], target["expr"].replace("$__rate_interval", "10s").replace("$worker", ".+"))
        for dashboard in dashboards().values()
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]


def expressions() -> list[Expression]:
    """Every expression of rules and dashboards; in place of series that rules record, theirs."""
    return [*_of_rules(), *_of_dashboards()]


def _of_rules() -> Iterator[Expression]:
    for rule in rules():
        shown = frozenset(re.findall(r"\$labels\.(\w+)", str(rule.get("annotations"))))
        yield Expression(rule.get("alert") or rule["record"], rule["expr"], shown)


def _of_dashboards() -> Iterator[Expression]:
    for file, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                shown = frozenset(re.findall(r"{{(\w+)}}", target["legendFormat"]))
                yield Expression(f"{file}: {panel['title']}", target["expr"], shown)
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                metric, label = re.fullmatch(
                    r"label_values\((\w+), (\w+)\)", variable["query"]["query"]
                ).groups()
                yield Expression(
                    f"{file}: ${variable['name']}", f"max by ({label}) ({metric})", frozenset({label})
                )
