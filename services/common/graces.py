"""How long processes may take to stop after SIGTERM, seconds: each time lies within the next one."""

from __future__ import annotations

GATEWAY_S = 20.0
"""Default of a gateway's `grace_seconds`: its requests may go on, and then end as `shutting_down`."""
GATEWAY_CLOSE_S = 4.0
"""A gateway's last events are written and its connections closed within this time after its grace."""
WORKER_S = 25.0
"""Default of a worker's `grace_seconds`: longer than a gateway takes to end, so that of two that stop at once
the worker does not end a request before its gateway."""
WORKER_CLOSE_S = 5.0
"""A worker closes transfers and threads within this time after its grace."""
SUITE_S = 35.0
"""Default of `stop_timeout_seconds` of `perigee run`: the suite is gone within it, or killed."""
