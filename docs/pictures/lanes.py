"""A request as swim lanes: who does what, and what passes between them."""

from __future__ import annotations

from typing import Any

from docs.pictures.canvas import Canvas

_LEFT, _SPACING, _RIGHT = 240, 192, 105
_TOP, _ROW, _NOTE_WIDTH, _PART_GAP = 84, 42, 176, 10


def draw_lanes(source: dict[str, Any]) -> Canvas:
    """`lanes` have a name, a text and a colour. `parts` have a title and `steps`; a step has a number, a text
    and either `at`, a lane, or `from` and `to`, with `read = true` for a READ.
    """
    lanes = {lane["name"]: lane for lane in source["lanes"]}
    places = {name: _LEFT + number * _SPACING for number, name in enumerate(lanes)}
    parts = source["parts"]
    width = _LEFT + _SPACING * (len(lanes) - 1) + _RIGHT
    rows = sum(len(part["steps"]) for part in parts)
    bottom = _TOP + rows * _ROW + len(parts) * _PART_GAP
    canvas = Canvas(width, bottom + 52)
    _draw_bands(canvas, parts, width)
    for name, lane in lanes.items():
        canvas.line(f"M{places[name]} 62V{bottom}", colour=lane["colour"])
        canvas.box(places[name] - 70, 16, 140, 46, colour=lane["colour"])
        canvas.text(places[name], 39, lane["text"], colour=lane["colour"], bold=True)
    y = float(_TOP)
    for part in parts:
        for step in part["steps"]:
            _draw_step(canvas, step, y + _ROW / 2, lanes, places)
            y += _ROW
        y += _PART_GAP
    _draw_legend(canvas, bottom + 26, source["legend"])
    return canvas


def _draw_bands(canvas: Canvas, parts: list[dict[str, Any]], width: float) -> None:
    y = float(_TOP)
    for part in parts:
        height = len(part["steps"]) * _ROW
        canvas.box(12, y, width - 24, height, colour="rule", fill=True)
        canvas.text(24, y + height / 2, part["title"], colour="ink", anchor="start", bold=True)
        y += height + _PART_GAP


def _draw_step(
    canvas: Canvas, step: dict[str, Any], y: float, lanes: dict[str, Any], places: dict[str, int]
) -> None:
    if "at" in step:
        colour, x = lanes[step["at"]]["colour"], places[step["at"]]
        canvas.box(x - _NOTE_WIDTH / 2, y - 18, _NOTE_WIDTH, 36, colour=colour)
        canvas.text(x, y, step["text"], size=12.5)
        canvas.dot(x - _NOTE_WIDTH / 2, y, str(step["number"]), colour=colour)
        return
    colour = lanes[step["from"]]["colour"]
    begin, end = places[step["from"]], places[step["to"]]
    canvas.line(f"M{begin} {y + 10:g}H{end}", colour=colour, dashed=step.get("read", False), arrow=True)
    canvas.dot(begin, y + 10, str(step["number"]), colour=colour)
    canvas.text((begin + end) / 2, y - 3, step["text"], size=12.5)


def _draw_legend(canvas: Canvas, y: float, legend: dict[str, str]) -> None:
    canvas.line(f"M24 {y:g}H74", colour="ink", arrow=True)
    canvas.text(84, y, legend["call"], colour="quiet", anchor="start")
    canvas.line(f"M470 {y:g}H520", colour="ink", dashed=True, arrow=True)
    canvas.text(530, y, legend["read"], colour="quiet", anchor="start")
