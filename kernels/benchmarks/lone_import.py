"""Imports one module of an installed package, without the rest of the package and its dependencies."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any


def import_alone(name: str) -> ModuleType:
    """Imports the module `name` and the modules of its own package that it needs.

    Runs no `__init__`. Every other module of the outermost package is a stand-in whose members are false,
    return themselves when called or when a member is read, and do nothing: enough for `is_hip()` and settings
    that are off. Nothing of the package stays in `sys.modules`. Raises ModuleNotFoundError if there is no
    such package.
    """
    root = name.partition(".")[0]
    spec = importlib.util.find_spec(root)
    if spec is None or spec.origin is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"No module named {root!r}", name=root)
    with _only(root, _Finder(root, Path(next(iter(spec.submodule_search_locations))), name)):
        return importlib.import_module(name)


@contextmanager
def _only(root: str, finder: _Finder) -> Iterator[None]:
    kept = _taken_out(root)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        _taken_out(root)
        sys.modules.update(kept)


def _taken_out(root: str) -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name == root or name.startswith(f"{root}.")]
    return {name: sys.modules.pop(name) for name in names}


class _Finder(MetaPathFinder, Loader):
    """Finds bare packages around a module, its real siblings, and stand-ins for all other modules."""

    def __init__(self, root: str, place: Path, wanted: str) -> None:
        self._root = root
        self._place = place
        self._package = wanted.rpartition(".")[0]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._root and not fullname.startswith(f"{self._root}."):
            return None
        if fullname.rpartition(".")[0] == self._package:
            return PathFinder.find_spec(fullname, path, target)
        spec = ModuleSpec(fullname, self, is_package=True)
        if f"{self._package}.".startswith(f"{fullname}."):
            spec.submodule_search_locations = [str(self._place.joinpath(*fullname.split(".")[1:]))]
        return spec

    def exec_module(self, module: ModuleType) -> None:
        if not module.__path__:
            module.__dict__["__getattr__"] = _member


class _Nothing:
    """A stand-in: false, and returns itself for every call and member."""

    def __bool__(self) -> bool:
        return False

    def __call__(self, *_: Any, **__: Any) -> _Nothing:
        return self

    def __getattr__(self, name: str) -> _Nothing:
        return _member(name, self)


def _member(name: str, value: _Nothing = _Nothing()) -> _Nothing:  # noqa: B008 - it has no state
    if name.startswith("__"):
        raise AttributeError(name)
    return value
