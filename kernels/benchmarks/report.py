"""Writes what a check found on a GPU, as CSV and as a table. Needs only the standard library."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def results_of(gpu: str, results: Path = RESULTS) -> Path:
    """The directory for the results of a GPU of this name."""
    return results / gpu.lower().replace(" ", "-")


@dataclass(frozen=True)
class Report:
    """Writes `name`.csv and `name`.md into `directory`, made if necessary; None: writes nothing. Rows are of
    the dataclass `kind`, whose fields are texts: an empty text was not measured.
    """

    directory: Path | None
    name: str
    kind: type[Any]

    def write(self, facts: Mapping[str, str], rows: Iterable[Any]) -> str:
        """Replaces what was written before; returns the facts and the table as text."""
        names = [field.name for field in fields(self.kind)]
        lines = [{name: getattr(row, name) for name in names} for row in rows]
        text = _render(facts, names, lines)
        if self.directory is not None:
            self.directory.mkdir(parents=True, exist_ok=True)
            (self.directory / f"{self.name}.md").write_text(text)
            with (self.directory / f"{self.name}.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, names)
                writer.writeheader()
                writer.writerows(lines)
        return text


def read_facts(path: Path) -> dict[str, str]:
    """The facts above a written table."""
    lines = path.read_text().partition("\n\n")[0].splitlines()
    return dict(line.removeprefix("- ").split(": ", 1) for line in lines if ": " in line)


def _render(facts: Mapping[str, str], names: list[str], lines: list[dict[str, str]]) -> str:
    table = ["| " + " | ".join(name.replace("_", " ") for name in names) + " |", "|---" * len(names) + "|"]
    table += ["| " + " | ".join(_cell(line[name]) for name in names) + " |" for line in lines]
    return "\n".join([*(f"- {name}: {value}" for name, value in facts.items()), "", *table, ""])


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")
