"""Compiled loops of other machines."""

from __future__ import annotations

import pytest

from services.engine.native import library as native
from services.engine.native import prebuild, sources


@pytest.fixture
def made_before(monkeypatch, tmp_path):
    """A library for other machines, and no compiler any more."""
    path = tmp_path / "loops.so"
    for module in (native, prebuild, sources):
        monkeypatch.setattr(module, "prebuilt", lambda: path)
    if prebuild.main():
        pytest.skip("there is no C compiler")
    monkeypatch.setattr(native, "library_directory", lambda: tmp_path / "cache")
    monkeypatch.setattr(sources.shutil, "which", lambda name: None)
