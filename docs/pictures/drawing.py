"""From a source to an SVG, by the kind that the source names."""

from __future__ import annotations

import tomllib
from pathlib import Path

from docs.pictures.lanes import draw_lanes
from docs.pictures.states import draw_states
from docs.pictures.timeline import draw_timeline

SOURCES = sorted(Path(__file__).parent.glob("*.toml"))

_KINDS = {"lanes": draw_lanes, "states": draw_states, "timeline": draw_timeline}


def draw(source: Path) -> str:
    """The SVG text of a TOML file. KeyError where it lacks a key or names what it does not define."""
    content = tomllib.loads(source.read_text())
    return _KINDS[content["kind"]](content).render(content["title"], content["description"])
