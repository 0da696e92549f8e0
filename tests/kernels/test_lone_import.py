"""One module of a package is enough to run one kernel of it."""

from __future__ import annotations

import sys

import pytest

from kernels.benchmarks.lone_import import import_alone

KERNEL = """
from peer.kernels.beside import FACTOR
from peer.settings import envs
from peer.utils.device import is_hip, padding

FAST = envs.FAST.get() and True
SIZE = 3 if is_hip() else padding(1) or 5

def scale(x):
    return x * FACTOR
"""


@pytest.fixture
def peer(monkeypatch, tmp_path):
    """A package that cannot be imported as a whole."""
    for package in ("peer", "peer/kernels", "peer/utils"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("import what_is_not_installed")
    (tmp_path / "peer/kernels/fast.py").write_text(KERNEL)
    (tmp_path / "peer/kernels/beside.py").write_text("FACTOR = 2")
    (tmp_path / "peer/utils/device.py").write_text("import what_is_not_installed")
    monkeypatch.syspath_prepend(tmp_path)


def loaded():
    return [name for name in sys.modules if name.split(".")[0] == "peer"]


@pytest.mark.usefixtures("peer")
def test_a_module_is_imported_with_its_siblings_and_without_what_the_package_needs():
    module = import_alone("peer.kernels.fast")
    assert module.scale(21) == 42
    assert not module.FAST
    assert module.SIZE == 5


@pytest.mark.usefixtures("peer")
def test_nothing_of_the_package_stays_importable():
    import_alone("peer.kernels.fast")
    assert loaded() == []
    with pytest.raises(ModuleNotFoundError, match="what_is_not_installed"):
        __import__("peer.kernels.fast")


@pytest.mark.usefixtures("peer")
def test_what_was_imported_before_is_there_again(monkeypatch):
    whole = object()
    monkeypatch.setitem(sys.modules, "peer.utils", whole)
    import_alone("peer.kernels.fast")
    assert sys.modules["peer.utils"] is whole


@pytest.mark.usefixtures("peer")
def test_a_module_that_fails_leaves_nothing_behind(tmp_path):
    (tmp_path / "peer/kernels/broken.py").write_text("1 / 0")
    finders = list(sys.meta_path)
    with pytest.raises(ZeroDivisionError):
        import_alone("peer.kernels.broken")
    assert loaded() == []
    assert sys.meta_path == finders


def test_a_directory_of_the_same_name_is_no_package(monkeypatch, tmp_path):
    (tmp_path / "peer").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'peer'"):
        import_alone("peer.kernels.fast")
