"""Packages that exist as metadata alone."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

MakePackage = Callable[..., importlib.metadata.Distribution]


@pytest.fixture
def make_package(tmp_path) -> MakePackage:
    """Writes a dist-info folder and the files it names."""

    def make(
        name: str,
        version: str = "1.0",
        metadata: Sequence[str] = (),
        files: Sequence[str] = (),
        absent: Sequence[str] = (),
        sbom: Mapping[str, Any] | None = None,
    ) -> importlib.metadata.Distribution:
        folder = tmp_path / f"{name}-{version}.dist-info"
        (folder / "sboms").mkdir(parents=True)
        lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *metadata]
        (folder / "METADATA").write_text("\n".join(lines))
        record = [*files, *absent]
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()
        if sbom is not None:
            (folder / "sboms" / "wheel.cdx.json").write_text(json.dumps(sbom))
            record.append(f"{folder.name}/sboms/wheel.cdx.json")
        (folder / "RECORD").write_text("".join(f"{file},,\n" for file in record))
        return importlib.metadata.Distribution.at(folder)

    return make
