"""When a request that lost its worker goes on, and how long it waits for another one."""

from __future__ import annotations

from dataclasses import dataclass

# A worker that is being restarted is waited for so long, or twice as long as its last restart took. This
# bridges a stop of 40 s, of which the first part goes by before the worker is missed.
_RESTART_S = 45.0


@dataclass(frozen=True)
class FailoverPolicy:
    """Limits of failover. Seconds: until the first token on one worker, between two tokens, and at most to
    wait for another worker. `max_failovers`: in a row, without a token between them.
    """

    first_token_s: float
    token_s: float
    worker_wait_s: float
    max_failovers: int

    def wait_s(self, last_restart_s: float) -> float:
        """How long to wait for another worker; `last_restart_s`: of the missing one, 0.0 if unknown."""
        return min(max(_RESTART_S, 2 * last_restart_s), self.worker_wait_s)
