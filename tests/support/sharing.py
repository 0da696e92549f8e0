"""How `make test` shares the tests among several processes."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

TOGETHER = "tests/integration/"


class ByFile(LoadScopeScheduling):
    """A file's tests stay together, because they share fixtures.

    So do all that start whole suites: these would be in each other's way.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return TOGETHER if file.startswith(TOGETHER) else file
