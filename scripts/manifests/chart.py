"""The chart's output as documents, without what Helm alone needs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CHART = Path("deploy/helm/perigee")
_HELMS = re.compile(
    r"^# Source: .*\n|^ +(?:helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n"
    r"|^ +annotations:\n(?: +#.*\n)*(?: +helm\.sh/resource-policy: .*\n)",
    re.MULTILINE,
)
_BLANK = re.compile(r"^[ \t]*\n", re.MULTILINE)


@dataclass(frozen=True)
class Document:
    """One object as text, with its comments."""

    kind: str
    name: str
    text: str


def render(helm: str, values: Sequence[str], chart: Path = CHART) -> list[Document]:
    """What `helm template perigee` gives for values files, in its order. Raises CalledProcessError."""
    files = [f"--values={chart / f'values-{name}.yaml'}" for name in values]
    command = [helm, "template", "perigee", str(chart), *files]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [_document(text) for text in done.stdout.split("\n---\n") if "\nkind: " in text]


def _document(text: str) -> Document:
    text = _BLANK.sub("", _HELMS.sub("", text.removeprefix("---\n") + "\n"))
    [kind] = re.findall(r"^kind: (\w+)$", text, re.MULTILINE)
    name = re.search(r"^metadata:\n(?: +#.*\n)*  name: (\S+)$", text, re.MULTILINE)
    assert name is not None, text
    return Document(kind, name.group(1), text)
