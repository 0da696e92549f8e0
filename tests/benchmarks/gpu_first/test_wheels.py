"""The folder of wheels is small, and has what the steps import."""

from __future__ import annotations

import sys
import zipfile

import pytest

from benchmarks.gpu_first import wheels
from tests.kernels.alone import run_alone

FILES = {
    "lib/__init__.py": "answer = 42\n",
    "lib.libs/libucp.so": "x" * 1000,
    "lib.libs/libaws-core.so": "x" * 5000,
    "lib.libs/nixl/libplugin_UCX.so": "x",
    "lib.libs/nixl/libplugin_GDS.so": "x",
    "nixl_ep_cu13/big.so": "x" * 9000,
    "lib-1.data/headers/a.h": "x",
}
PYTHON = f"cp3{sys.version_info.minor}"
KEPT = {"lib/__init__.py", "lib.libs/libucp.so", "lib.libs/nixl/libplugin_UCX.so"}


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / f"nixl_cu13-1-{PYTHON}-{PYTHON}-manylinux_2_28_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in FILES.items():
            archive.writestr(name, text)
        lines = [f"{name},sha256=abc,{len(text)}" for name, text in FILES.items()]
        archive.writestr("lib-1.dist-info/RECORD", "\n".join([*lines, "lib-1.dist-info/RECORD,,", ""]))
    return path


def test_a_wheel_keeps_what_reads_need_and_its_record_names_no_more(wheel):
    wheels.without(wheel, wheels._LEFT_OUT)
    with zipfile.ZipFile(wheel) as archive:
        assert set(archive.namelist()) == KEPT | {"lib-1.dist-info/RECORD"}
        record = archive.read("lib-1.dist-info/RECORD").decode()
    assert {line.split(",")[0] for line in record.splitlines()} == KEPT | {"lib-1.dist-info/RECORD"}
    assert list(wheel.parent.iterdir()) == [wheel]


def test_unpacked_wheels_can_be_imported(wheel, tmp_path, monkeypatch):
    site = wheels.unpack(wheel.parent, tmp_path / "site")
    assert (site / "lib" / "__init__.py").read_text() == "answer = 42\n"
    assert wheels.unpack(tmp_path / "absent", tmp_path / "other") is None


def test_wheels_for_another_python_are_left_alone(wheel, tmp_path):
    wheel.rename(wheel.with_name("nixl_cu13-1-cp39-cp39-manylinux_2_28_x86_64.whl"))
    assert wheels.unpack(wheel.parent, tmp_path / "site") is None
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize("name", ["a-1-py3-none-any.whl", "a-1-cp39-abi3-manylinux_2_31_x86_64.whl"])
def test_wheels_for_any_python_suit_this_one(name):
    assert wheels.suits(name)


def test_the_versions_are_those_of_the_project():
    pins = dict(pin.split("==") for pin in wheels.pins("13"))
    assert set(pins) == {*wheels.PACKAGES, "nixl-cu13"}
    assert pins["nixl"] == pins["nixl-cu13"]
    assert all(pins.values())


@pytest.mark.parametrize(("most", "status"), [(10**9, 0), (1000, 1)])
def test_a_folder_that_is_too_large_with_the_repository_is_refused(
    tmp_path, monkeypatch, capsys, most, status
):
    def download(requirements, python, directory):
        (directory / "structlog-1-py3-none-any.whl").write_bytes(b"x" * 2000)

    monkeypatch.setattr(wheels, "download", download)
    monkeypatch.setattr(wheels, "size_of_repository", lambda: 100)
    monkeypatch.setattr(wheels, "MOST_BYTES", most)
    assert wheels.main(["--out", str(tmp_path / "wheels")]) == status
    assert ("gpu-wheels: more than" in capsys.readouterr().out) == bool(status)


def test_the_repository_leaves_room_for_them():
    assert wheels.size_of_repository() < 40 * 2**20


def test_the_engine_needs_no_package_beside_those_in_the_folder():
    ours = {"benchmarks", "services", "perigee"}
    theirs = {name.replace("-", "_") for name in wheels.PACKAGES} - {"protobuf", "nixl"} | {"google"}
    done = run_alone("benchmarks.gpu_first.engine", ours | theirs, "--model", "no-such-model")
    assert "CheckpointError" in done.stderr
    assert "No module named" not in done.stderr
