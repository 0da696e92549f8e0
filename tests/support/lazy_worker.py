"""`perigee`, whose workers' ranks meet at their first collective."""

from __future__ import annotations

import functools
import sys
import warnings

from services.cli.main import main
from services.engine.serving import text_worker
from tests.support.lazy_group import start_lazily

if __name__ == "__main__":
    warnings.filterwarnings("ignore", "Set timeout is now only supported")
    text_worker.RankPlan = functools.partial(text_worker.RankPlan, start_group=start_lazily)
    sys.exit(main())
