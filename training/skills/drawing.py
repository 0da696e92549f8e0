"""Lines of text as a picture of printed paper: varied size and layout, a little rotated, a little noisy."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.skills.dice import Dice

SEPARATOR = "---"
"""A line that is drawn as a rule across the paper."""


@dataclass(frozen=True)
class Layout:
    """Lengths in pixels; `centred`: lines of one part are, else they begin at the left."""

    font: int
    margin: int
    gap: int
    centred: bool
    spread: bool

    @classmethod
    def draw(cls, dice: Dice) -> Layout:
        """Any of some hundreds."""
        return cls(
            dice.between(16, 24), dice.between(4, 14), dice.between(3, 9), dice.chance(0.5), dice.chance(0.7)
        )


def print_paper(lines: Sequence[tuple[str, ...]], layout: Layout, dice: Dice) -> bytes:
    """A PNG. A line has one part, or a left and a right one, which `spread` sets apart."""
    font = ImageFont.load_default(layout.font)
    widths = [sum(font.getlength(part) for part in line) + layout.font * (len(line) - 1) for line in lines]
    height_of_line = layout.font + layout.gap
    width = round(max(widths)) + 2 * layout.margin
    height = height_of_line * len(lines) + 2 * layout.margin
    paper, ink = dice.between(225, 255), dice.between(0, 70)
    image = Image.new("L", (width, height), paper)
    pen = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        y = layout.margin + number * height_of_line
        if line == (SEPARATOR,):
            pen.line((layout.margin, y + layout.font // 2, width - layout.margin, y + layout.font // 2), ink)
            continue
        _write(pen, line, y, width, layout, font, ink)
    return _encoded(_worn(image, paper, dice))


def _write(
    pen: ImageDraw.ImageDraw,
    line: tuple[str, ...],
    y: int,
    width: int,
    layout: Layout,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    ink: int,
) -> None:
    left = float(layout.margin)
    if len(line) == 1 and layout.centred:
        left = (width - font.getlength(line[0])) / 2
    pen.text((left, y), line[0], ink, font)
    if len(line) == 2:
        at = left + font.getlength(line[0]) + layout.font
        if layout.spread:
            at = width - layout.margin - font.getlength(line[1])
        pen.text((at, y), line[1], ink, font)


def _worn(image: Image.Image, paper: int, dice: Dice) -> Image.Image:
    """Turned by at most 1.5 degrees, with noise of at most 12 levels."""
    angle = (dice.below(31) - 15) / 10
    turned = image.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor=paper)
    levels = np.asarray(turned, dtype=np.int16)
    strength = dice.below(13)
    noise = np.random.default_rng(dice.below(1 << 30)).integers(-strength, strength + 1, levels.shape)
    return Image.fromarray((levels + noise).clip(0, 255).astype(np.uint8))


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
