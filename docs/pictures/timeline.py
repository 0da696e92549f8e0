"""What happens when: bars and marks over an axis of seconds."""

from __future__ import annotations

from typing import Any

from docs.pictures.canvas import Canvas

_LEFT, _RIGHT, _TOP, _BAR = 170, 30, 46, 32


def draw_timeline(source: dict[str, Any]) -> Canvas:
    """`size` is [width, height], `seconds` the length of the axis, which stands at `axis_y`.

    `rows` have a text, a y and `bars`: `from` and `to` (seconds), text, colour. `moments` are vertical lines
    down to `to_y`: at, text, colour. `checks` are numbered dots: number, at, y, colour. `notes` explain them:
    number, text, place, colour.
    """
    width, height = source["size"]
    canvas = Canvas(width, height)
    scale: float = (width - _LEFT - _RIGHT) / source["seconds"]

    def at(seconds: float) -> float:
        return _LEFT + seconds * scale

    axis = source["axis_y"]
    canvas.line(f"M{_LEFT} {axis}H{width - _RIGHT + 10}", colour="grey", arrow=True)
    for second in range(source["seconds"]):
        canvas.line(f"M{at(second):g} {axis - 4}V{axis + 4}", colour="grey")
        canvas.text(at(second), axis + 17, f"{second} s" if second else "0", colour="quiet", size=12)
    for moment in source["moments"]:
        x = at(moment["at"])
        canvas.line(f"M{x:g} {_TOP + 14}V{moment['to_y']}", colour=moment["colour"], dashed=True)
        anchor = moment.get("anchor", "middle")
        canvas.text(x, _TOP - 8, moment["text"], colour=moment["colour"], size=12.5, bold=True, anchor=anchor)
    for row in source["rows"]:
        canvas.text(20, row["y"] + _BAR / 2, row["text"], anchor="start", bold=True)
        for bar in row["bars"]:
            begin, end = at(bar["from"]), at(bar["to"])
            canvas.box(begin, row["y"], end - begin, _BAR, colour=bar["colour"])
            canvas.text((begin + end) / 2, row["y"] + _BAR / 2, bar["text"], size=12.5)
    for check in source["checks"]:
        canvas.dot(at(check["at"]), check["y"], str(check["number"]), colour=check["colour"])
    for note in source["notes"]:
        x, y = note["place"]
        canvas.dot(x, y, str(note["number"]), colour=note["colour"])
        canvas.text(x + 20, y, note["text"], anchor="start", size=12.5)
    return canvas
