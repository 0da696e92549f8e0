"""States, and the arrows between them with who moves something along and by what."""

from __future__ import annotations

from math import hypot
from typing import Any

from docs.pictures.canvas import Canvas

_WIDTH, _HEIGHT = 168, 66


def draw_states(source: dict[str, Any]) -> Canvas:
    """`size` is [width, height]. `states` have a name, a text, a place [x, y] and a colour.

    `arrows` go `from` one `to` another; `shift` moves one sideways (pixels, to the right of its direction),
    `over` lets one pass above all else at that y. An arrow's text stands at `place`, its first line in bold.
    """
    canvas = Canvas(*source["size"])
    states = {state["name"]: state for state in source["states"]}
    for arrow in source["arrows"]:
        begin, end = states[arrow["from"]], states[arrow["to"]]
        canvas.line(_path(begin["place"], end["place"], arrow), colour=end["colour"], arrow=True)
    for state in states.values():
        x, y = state["place"]
        canvas.box(x - _WIDTH / 2, y - _HEIGHT / 2, _WIDTH, _HEIGHT, colour=state["colour"])
        canvas.text(x, y - 13, state["name"], colour=state["colour"], size=15, bold=True)
        canvas.text(x, y + 12, state["text"], size=12)
    for arrow in source["arrows"]:
        x, y = arrow["place"]
        anchor = arrow.get("anchor", "middle")
        first, _, rest = arrow["text"].partition("\n")
        canvas.text(x, y, first, anchor=anchor, size=12.5, bold=True)
        if rest:
            canvas.text(
                x, y + 17 * (rest.count("\n") + 2) / 2, rest, anchor=anchor, size=12.5, colour="quiet"
            )
    return canvas


def _path(begin: list[float], end: list[float], arrow: dict[str, Any]) -> str:
    (x0, y0), (x1, y1) = begin, end
    if "over" in arrow:
        top = arrow["over"]
        bend = 14 if x1 > x0 else -14
        up = f"M{x0:g} {y0:g}V{top + 14:g}Q{x0:g} {top:g} {x0 + bend:g} {top:g}"
        return f"{up}H{x1 - bend:g}Q{x1:g} {top:g} {x1:g} {top + 14:g}V{y1 - _HEIGHT / 2 - 3:g}"
    length = hypot(x1 - x0, y1 - y0)
    across, down = (x1 - x0) / length, (y1 - y0) / length
    right, low = -down * arrow.get("shift", 0), across * arrow.get("shift", 0)
    # Where the line, moved sideways, meets the border of the box at its end; the head has to stay outside.
    to_side = (_WIDTH / 2 + (right if across > 0 else -right)) / abs(across) if across else length
    to_edge = (_HEIGHT / 2 + (low if down > 0 else -low)) / abs(down) if down else length
    gap = min(to_side, to_edge) + 3
    x1, y1 = x1 + right - across * gap, y1 + low - down * gap
    return f"M{x0 + right:.1f} {y0 + low:.1f}L{x1:.1f} {y1:.1f}"
