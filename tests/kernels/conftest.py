"""Fixtures of the kernels' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernels.interpreter import Interpreter


@pytest.fixture(scope="session")
def interpreter() -> Iterator[Interpreter]:
    """Runs kernels on CPU tensors."""
    runner = Interpreter()
    yield runner
    runner.close()


@pytest.fixture(scope="session", autouse=True)
def fresh_compilations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled kernels are cached for this run only: the next one compiles what the code then says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        yield
