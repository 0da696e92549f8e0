"""docs/third-party.md is what the installed packages say."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib

import pytest

from scripts import third_party
from services.cli.sbom.libraries import LibraryTable
from services.cli.sbom.packages import described


@pytest.fixture(scope="module")
def brought(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    try:
        return third_party.brought_by(project)
    except importlib.metadata.PackageNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")


@pytest.fixture(scope="module")
def written():
    """Version and what brings it, by package, as on the page."""
    rows = re.findall(
        r"^\| (\S+) \| (\S+) \| [^|]+ \| ([^|]+) \|$", third_party.PAGE.read_text(), re.MULTILINE
    )
    return {name: (version, by) for name, version, by in rows if name != "package"}


@pytest.fixture
def same(brought, written):
    """Skips a test where other versions are installed than the page lists: these may bring other packages."""
    here = {name: importlib.metadata.version(name).partition("+")[0] for name in brought}
    other = {name for name in here if written.get(name, ("", ""))[0] not in ("", here[name])}
    if other:
        pytest.skip(f"other versions than the page's are installed: {', '.join(sorted(other))}")


def test_the_page_is_as_written_from_the_packages_that_it_lists(same):
    assert third_party.main(["--check"]) == 0


def test_the_page_lists_every_package_that_perigee_brings_and_no_other(same, brought, written):
    assert {name: by for name, (_, by) in written.items()} == {
        name: ", ".join(by) for name, by in brought.items()
    }
    assert "pytest" not in written


def test_the_page_has_each_package_that_is_pinned_with_its_version_and_what_brings_it(repository, written):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    wanted = {third_party.CORE: project["dependencies"], **project["optional-dependencies"]}
    del wanted["dev"]
    for by, requirements in wanted.items():
        for name, pin in (
            re.match(r"([\w-]+)(?:\[\w+\])?[=>]=([\w.]+)$", line).groups() for line in requirements
        ):
            version, brought_by = written[name]
            assert by in brought_by.split(", ") or brought_by == third_party.CORE
            assert version == pin or name.startswith(("grpcio", "protobuf"))


def test_each_package_has_a_licence_and_each_library_in_a_wheel_a_row_in_the_table(brought):
    table = LibraryTable()
    packages = [described(importlib.metadata.distribution(name), table) for name in brought]
    assert [package.name for package in packages if package.licence == "unknown"] == []
    rows = {row[1] for row in table._rows}
    assert {each.name for package in packages for each in package.libraries} <= rows


def test_copyleft_without_a_way_out_comes_with_the_extra_for_videos_alone(brought):
    """Of the GPL; the LGPL, and the GPL with an exception for linking, are on the page."""
    table = LibraryTable()
    strong = {
        name
        for name in brought
        for each in described(importlib.metadata.distribution(name), table).libraries
        if re.match(r"A?GPL", each.licence) and " OR " not in each.licence and " WITH " not in each.licence
    }
    assert {name: brought[name] for name in strong} == {"av": ["video"]}


def test_a_page_that_differs_is_named_and_left_alone(tmp_path, monkeypatch, capsys, brought):
    page = tmp_path / "page.md"
    page.write_text("old")
    monkeypatch.setattr(third_party, "PAGE", page)
    assert third_party.main(["--check"]) == 1
    assert "make third-party" in capsys.readouterr().err
    assert page.read_text() == "old"
    assert third_party.main([]) == third_party.main(["--check"]) == 0
