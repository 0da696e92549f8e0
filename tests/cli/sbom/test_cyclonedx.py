"""The document that `perigee sbom` prints."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from services.cli.main import main
from services.cli.sbom.cyclonedx import document
from services.cli.sbom.debian import DebianPackage, debian_packages
from services.cli.sbom.libraries import LibraryTable
from services.cli.sbom.packages import described, installed

TABLE = LibraryTable()


def every(component: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The components inside one, and it."""
    yield component
    for each in component.get("components", ()):
        yield from every(each)


def test_it_is_about_perigee_and_lists_python_and_each_package(make_package):
    packages = [
        described(make_package("perigee", "0.1.0", ["License-Expression: Apache-2.0"]), TABLE),
        described(make_package("av", "18.1.0", ["License: Own"], ["av.libs/libx265-1a2b3c4d.so.2"]), TABLE),
    ]
    made = document(packages, [DebianPackage("libc6", "2:2.36-9+deb12u1", "amd64")])
    assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.6")
    about = made["metadata"]["component"]
    assert (about["name"], about["type"], about["licenses"]) == (
        "perigee",
        "application",
        [{"expression": "Apache-2.0"}],
    )
    python, av, libc = made["components"]
    assert (python["name"], python["version"]) == ("python", platform.python_version())
    assert av["purl"] == "pkg:pypi/av@18.1.0"
    assert av["licenses"] == [{"license": {"name": "Own"}}]
    assert av["components"] == [
        {
            "type": "library",
            "name": "x265",
            "licenses": [{"expression": "GPL-2.0-or-later"}],
            "properties": [{"name": "perigee:file", "value": "libx265-1a2b3c4d.so.2"}],
            "bom-ref": "pkg:pypi/av@18.1.0#0",
        }
    ]
    assert libc["purl"] == "pkg:deb/debian/libc6@2%3A2.36-9%2Bdeb12u1?arch=amd64"


def test_the_command_describes_what_is_installed_and_each_reference_is_unique(capsys):
    assert main(["sbom"]) == 0
    printed = capsys.readouterr().out
    made = json.loads(printed)
    by_name = {each["name"]: each for each in made["components"]}
    assert by_name["torch"]["version"] == version("torch")
    assert {"x264", "x265"} <= {each["name"] for each in by_name["av"]["components"]}
    everything = [each for top in made["components"] for each in every(top)]
    references = [each["bom-ref"] for each in everything]
    assert len(references) == len(set(references)) > 200
    for each in everything:
        assert each["type"] in ("library", "platform", "application", "framework", "file")
        for licence in each.get("licenses", ()):
            assert set(licence) in ({"expression"}, {"license"})
    assert main(["sbom"]) == 0
    assert capsys.readouterr().out == printed


def test_packages_of_debian_that_were_removed_are_left_out(tmp_path):
    status = tmp_path / "status"
    status.write_text(
        "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2-1\n"
        "Description: a shell\n Package: none\n\n"
        "Package: gcc\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 12\n"
    )
    assert debian_packages(status) == [DebianPackage("bash", "5.2-1", "amd64")]
    assert debian_packages(tmp_path / "absent") == []


def test_a_package_that_two_folders_hold_is_listed_once():
    names = [package.name for package in installed(TABLE)]
    assert names == sorted(set(names))
