"""`python -m scripts.manifests [--check | --tools]`: writes kustomize bases and components from the chart.

--check writes nothing and says which files differ, with exit status 1. --tools fetches helm and kubectl.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from scripts.generated import differing
from scripts.manifests.chart import CHART, Document, render
from scripts.manifests.scenarios import ADDED_TO, BASES, COMPONENTS
from scripts.manifests.tools import ToolMissing, fetch, find

KUSTOMIZE = Path("deploy/kustomize")
MONITORING = Path("monitoring")
_GENERATED = "# Made by `make manifests` from deploy/helm/perigee.\n"


def main(words: Sequence[str]) -> int:
    """Returns the exit status."""
    if words == ["--tools"]:
        fetch()
        return 0
    try:
        helm = find("helm")
    except ToolMissing as missing:
        print(missing, file=sys.stderr)
        return 2
    try:
        found = update(helm, write=words != ["--check"])
    except subprocess.CalledProcessError as error:
        print(error.stderr, file=sys.stderr)
        return 1
    for path in found:
        print(f"{path} differs: run `make manifests`" if words else f"wrote {path}")
    return 1 if words and found else 0


def update(helm: str, *, write: bool) -> list[Path]:
    """Returns the files that differ from what the chart gives, or are left over; writes or removes them if
    `write`.
    """
    found = _apply(chart_files(), [CHART / "files"], write)
    wanted: dict[Path, str] = {}
    for base, values in BASES.items():
        wanted |= base_files(KUSTOMIZE / "bases" / base, render(helm, values))
    for component in COMPONENTS:
        folder = KUSTOMIZE / "components" / component
        wanted |= _by_kind(folder, added(helm, BASES[ADDED_TO], component))
    return found + _apply(wanted, [KUSTOMIZE / "bases", KUSTOMIZE / "components"], write)


def chart_files() -> dict[Path, str]:
    """What the chart includes of `monitoring/`: a chart reads no files outside its own folder."""
    rules = MONITORING / "rules.yml"
    found = {CHART / "files" / "rules.yml": rules.read_text()} if rules.exists() else {}
    dashboards = sorted(MONITORING.glob("**/dashboards/*.json"))
    return found | {CHART / "files" / "dashboards" / path.name: path.read_text() for path in dashboards}


def base_files(folder: Path, documents: Sequence[Document]) -> dict[Path, str]:
    """A base's files: one per kind, and the kustomization that lists them."""
    files = _by_kind(folder, documents)
    listed = "".join(f"  - {path.name}\n" for path in sorted(files))
    head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n"
    return {**files, folder / "kustomization.yaml": f"{_GENERATED}{head}{listed}"}


def added(helm: str, values: Sequence[str], more: str) -> list[Document]:
    """The objects that a values file adds to those of others."""
    there = {(each.kind, each.name) for each in render(helm, values)}
    return [each for each in render(helm, [*values, more]) if (each.kind, each.name) not in there]


def _by_kind(folder: Path, documents: Sequence[Document]) -> dict[Path, str]:
    in_order = sorted(documents, key=lambda each: (each.kind, each.name))
    return {
        folder / f"{kind.lower()}.yaml": _GENERATED + "---\n".join(each.text for each in group)
        for kind, group in groupby(in_order, key=lambda each: each.kind)
    }


def _apply(wanted: dict[Path, str], folders: Sequence[Path], write: bool) -> list[Path]:
    there = {path: path.read_text() for folder in folders for path in folder.glob("**/*") if path.is_file()}
    left = [path for path, text in there.items() if path not in wanted and text.startswith(_GENERATED)]
    if write:
        for path in left:
            path.unlink()
    return differing(wanted, write=write) + left


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
