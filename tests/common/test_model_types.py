"""A table of model families that installed packages add to."""

from __future__ import annotations

import pytest

from services.common.errors import CheckpointError
from services.common.model_types import ModelTypes

GROUP = "perigee.test_model_types"


@pytest.fixture
def table(tmp_path, monkeypatch) -> ModelTypes[str]:
    """One entry of its own, and a package that declares three."""
    (tmp_path / "auk_package.py").write_text("NAME = 'a package'\nNUMBER = 7\n")
    (tmp_path / "auk_package-1.0.dist-info").mkdir()
    (tmp_path / "auk_package-1.0.dist-info" / "METADATA").write_text("Name: auk_package\nVersion: 1.0\n")
    entries = f"[{GROUP}]\nauk = auk_package:NAME\nown = auk_package:NAME\nnumber = auk_package:NUMBER\n"
    (tmp_path / "auk_package-1.0.dist-info" / "entry_points.txt").write_text(entries)
    monkeypatch.syspath_prepend(tmp_path)
    return ModelTypes({"own": "Perigee"}, GROUP, str)


def test_a_package_adds_an_entry_and_replaces_none(table):
    assert table.names == {"own", "auk", "number"}
    assert table.find("auk", "here") == "a package"
    assert table.find("own", "here") == "Perigee"


@pytest.mark.parametrize("given", ["dodo", None, 7, ["own"]])
def test_what_has_no_entry_is_refused_with_what_is_served(table, given):
    with pytest.raises(CheckpointError) as caught:
        table.find(given, "there/config.json")
    found = "missing" if given is None else repr(given)
    assert caught.value.message == f"there/config.json: model_type is {found}; served: auk, number, own"


def test_an_entry_of_another_kind_is_named(table):
    with pytest.raises(CheckpointError, match=f"auk_package:NUMBER, {GROUP} number, is no str"):
        table.find("number", "here")
