"""An environment for lm-eval alone, which `make test-lm-eval` installs from its lock file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.locked_packages import install, keep


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--lm-eval", action="store_true", help="install lm-eval and run it against the suite")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Only on demand: it downloads and takes minutes."""
    wanted = config.getoption("lm_eval", default=False)
    return True if collection_path.name == "test_scores.py" and not wanted else None


@pytest.fixture(scope="session")
def lm_eval(repository: Path) -> Path:
    """The interpreter that has lm-eval; its environment is kept until the lock file changes."""
    lock = repository / "tests" / "lm_eval" / "requirements.txt"
    folder = repository / ".run" / "lm_eval"
    keep(folder, lock, lambda: install(lock, folder))
    return folder / "bin" / "python"
