"""What an event cost the clients."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.deaths.attempt import Attempt
from benchmarks.deaths.clients import Asked

_SDK_RETRIES = 2
"""How often clients commonly retry unless they are told otherwise."""


@dataclass(frozen=True)
class Row:
    """One event that happened to one role. Times in seconds from the event, inf if something did not end.

    `in_flight`: requests in flight at the event. `asked`: these and those sent later. `last`: when the last
    of those in flight had ended. `whole`: when all roles served again. `silence`: the longest time without a
    byte of an answer. `lost`: requests whose first try was not answered, by reason; `final` of them with
    nothing that says they may be asked again. `saved`: those of `lost` that two retries had answered, and
    five. `wrong`: texts, cut ones included, that are not what the undisturbed suite answers.
    """

    role: str
    event: str
    in_flight: int
    asked: int
    last: float
    whole: float
    silence: float
    lost_in_flight: int
    lost: dict[str, int]
    final: int
    saved: tuple[int, int]
    wrong: int

    @classmethod
    def of(
        cls,
        role: str,
        event: str,
        at: float,
        whole: float,
        asked: Sequence[Asked],
        heard: Sequence[float],
        texts: Mapping[int, str],
    ) -> Row:
        """Counts. `at`, `whole`: when it happened, and when all roles served again. `heard`: times of bytes
        of answers. `texts`: the right ones.
        """
        began = [each for each in asked if each.sent <= at < each.ended]
        late = [each for each in asked if each.ended > at]
        lost = [each for each in late if is_lost(each)]
        return cls(
            role,
            event,
            len(began),
            len(late),
            max((each.ended for each in began), default=at) - at,
            whole - at,
            silence(at, heard),
            sum(each in began for each in lost),
            dict(Counter(each.first.reason if each.first else "no end in time" for each in lost)),
            sum(each.first is None or not each.first.retryable for each in lost),
            (sum(is_saved(each, _SDK_RETRIES) for each in lost), sum(is_saved(each) for each in lost)),
            sum(is_wrong(each, texts[each.number]) for each in asked),
        )

    def line(self) -> dict[str, Any]:
        """The row for programs."""
        return asdict(self)


def is_lost(asked: Asked) -> bool:
    """Whether a client without retries had no answer."""
    return asked.first is None or bool(asked.first.reason)


def is_saved(asked: Asked, retries: int | None = None) -> bool:
    """Whether one of the first retries was answered, of all by default."""
    return any(not each.reason for each in asked.retries[:retries])


def is_wrong(asked: Asked, text: str) -> bool:
    """Whether a text that came, of the first try or of a retry, is not the right one or its beginning."""
    tries = [*([asked.first] if asked.first else []), *asked.retries]
    return any(not _fits(each, text) for each in tries)


def _fits(came: Attempt, text: str) -> bool:
    # An error's last event may follow half a character, whose place is taken by U+FFFD.
    return text.startswith(came.text.rstrip("\ufffd")) if came.reason else came.text == text


def silence(at: float, heard: Sequence[float]) -> float:
    """The longest time between two bytes that begins or ends after `at`."""
    before = max((each for each in heard if each <= at), default=at)
    times = [before, *sorted(each for each in heard if each > at)]
    return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0)


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| role | event | all ended after s | whole after s | longest silence s | lost of in flight"
        " | lost of all | why | without a retryable reason | saved by 2, 5 retries | wrong texts |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in rows:
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(each.lost.items()))
        seconds = (f"{value:.1f}" for value in (each.last, each.whole, each.silence))
        lost = f"{each.lost_in_flight} of {each.in_flight}", f"{sum(each.lost.values())} of {each.asked}"
        saved = f"{each.saved[0]}, {each.saved[1]}"
        cells = (each.role, each.event, *seconds, *lost, why, each.final, saved, each.wrong)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
