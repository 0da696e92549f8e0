"""What a stream sends while there is nothing new, so that nobody on the way takes it for dead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

KeepAliveKind: TypeAlias = Literal["none", "comment", "chunk"]

_COMMENT = b": keep-alive\n\n"


@dataclass(frozen=True)
class KeepAlive:
    """`none`: nothing is sent. `comment`: a comment, which clients skip. `chunk`: an event of the route in
    which nothing is new.

    `seconds`: how long a stream is silent at most. Its headers go out after that even if no worker has
    accepted the request; between events something is sent after half of that time or more.
    """

    kind: KeepAliveKind
    seconds: float

    def sign(self, empty_event: Callable[[], bytes]) -> bytes:
        """What to send, not empty. `empty_event`: makes the event of the route, as it is sent."""
        return _COMMENT if self.kind == "comment" else empty_event()
