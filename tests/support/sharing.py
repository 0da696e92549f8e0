"""How `make test` distributes the tests over several processes."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

TOGETHER = "tests/integration/"


class ByFile(LoadScopeScheduling):
    """Keeps a file's tests in one process, because they share fixtures.

    Also keeps all tests that start whole suites in one process, because they would slow each other down.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return TOGETHER if file.startswith(TOGETHER) else file
