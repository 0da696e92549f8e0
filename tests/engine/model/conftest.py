"""Compiled loops of other machines."""

from __future__ import annotations

import pytest

from services.engine.native import library as native
from services.engine.native import prebuild


@pytest.fixture
def made_before(monkeypatch, tmp_path):
    """A library for other machines, and no compiler any more."""
    path = tmp_path / "loops.so"
    monkeypatch.setattr(native, "prebuilt", lambda: path)
    monkeypatch.setattr(prebuild, "prebuilt", lambda: path)
    if prebuild.main():
        pytest.skip("there is no C compiler")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(native.shutil, "which", lambda name: None)
