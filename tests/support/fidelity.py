"""What was compared with what, how often, and the largest difference: the rows of docs/fidelity.md."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

PARTS = (
    "Tokenizer",
    "Chat template",
    "Tool declaration",
    "Prompt tokens in usage",
    "Image sizes and tokens",
    "Image pixels",
    "Video frames, chunks and timestamps",
    "Vision tower and projector",
    "int4 weights",
    "YaRN and rotary embedding",
    "Router",
    "Attention",
    "Text model",
    "Text model with images and video",
    "Deterministic mode",
    "Fast mode",
    "Whole suite",
)
"""In the order of the page."""

VERSIONS = ("torch", "transformers", "compressed-tensors", "tiktoken", "pillow")

HEAD = """# Fidelity

How near Perigee comes to the published model, measured against references that do not share its code:
the golden vectors (outputs of the published tokenizer, template and preprocessing rules), transformers'
port of the model, the compressed-tensors library, and formulas written down plainly in float64. Every row
is made by tests, which fail where their bound is not kept; `make fidelity` runs them and writes this page.

"0" means that every value was equal, bit for bit or token for token. Errors of logits, embeddings and
attention are the largest of any value, as a share of the standard deviation of the reference's values.
"""


@dataclass(frozen=True)
class Row:
    """One line of the table; `error` is None if equality was asserted."""

    part: str
    what: str
    reference: str
    cases: int
    error: float | None

    def merged(self, other: Row) -> Row:
        """One row for both comparisons."""
        errors = [error for error in (self.error, other.error) if error is not None]
        largest = max(errors) if errors else None
        return Row(self.part, self.what, self.reference, self.cases + other.cases, largest)


class FidelityReport:
    """Collects comparisons while tests run."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, str], Row] = {}

    def equal(self, part: str, what: str, reference: str, cases: int = 1) -> None:
        """Records `cases` comparisons in which every value was equal."""
        self._add(Row(part, what, reference, cases, None))

    def near(self, part: str, what: str, reference: str, error: float, cases: int = 1) -> None:
        """Records `cases` comparisons with this largest error; repeated comparisons keep the largest."""
        self._add(Row(part, what, reference, cases, error))

    def _add(self, row: Row) -> None:
        if row.part not in PARTS:
            raise ValueError(f"{row.part!r} is none of the parts of docs/fidelity.md: {', '.join(PARTS)}")
        key = (row.part, row.what, row.reference)
        known = self._rows.get(key)
        self._rows[key] = known.merged(row) if known else row

    def missing(self) -> list[str]:
        """Parts without any comparison."""
        return [part for part in PARTS if all(row.part != part for row in self._rows.values())]

    def write(self, path: Path) -> None:
        """Writes the whole page."""
        rows = sorted(self._rows.values(), key=lambda row: (PARTS.index(row.part), row.what, row.reference))
        path.write_text("\n".join([HEAD, *_table(rows), "", _made_with(), ""]))


def _table(rows: Iterable[Row]) -> list[str]:
    lines = ["| part | what was compared | reference | cases | largest error |", "|---|---|---|---:|---:|"]
    for row in rows:
        error = "0" if not row.error else f"{row.error:.1e}"
        lines.append(f"| {row.part} | {row.what} | {row.reference} | {row.cases:,} | {error} |")
    return lines


def _made_with() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in VERSIONS)
    return f"Made on {platform.machine()} with {packages}."
