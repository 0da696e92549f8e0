"""Renders lines of text as a picture of printed paper, with varied size and layout, slight rotation and
noise.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.skills.dice import Dice

SEPARATOR = "---"
"""A line that is drawn as a rule across the paper."""


@dataclass(frozen=True)
class Letter:
    """A printed character other than a space, with its middle in pixels."""

    character: str
    x: float
    y: float


@dataclass(frozen=True)
class Print:
    """A PNG with the positions of its words, in reading order."""

    picture: bytes
    words: tuple[tuple[Letter, ...], ...]

    @property
    def letters(self) -> tuple[Letter, ...]:
        """The letters of all words."""
        return tuple(letter for word in self.words for letter in word)


@dataclass(frozen=True)
class Layout:
    """Lengths in pixels; `pitch` is the distance from line to line. With `centred`, lines of one part are
    centred; otherwise they start at the left margin.
    """

    font: int
    margin: int
    pitch: int
    centred: bool
    spread: bool

    @classmethod
    def draw(cls, dice: Dice) -> Layout:
        """Draws one of several hundred layouts."""
        return cls(
            dice.between(18, 26),
            dice.between(4, 14),
            dice.between(28, 34),
            dice.chance(0.5),
            dice.chance(0.7),
        )


def print_paper(lines: Sequence[tuple[str, ...]], layout: Layout, dice: Dice) -> Print:
    """Prints lines of one part, or of a left and a right part, which `spread` moves to the two margins."""
    font = ImageFont.load_default(layout.font)
    assert isinstance(font, ImageFont.FreeTypeFont)
    widths = [sum(font.getlength(part) for part in line) + layout.font * (len(line) - 1) for line in lines]
    width = round(max(widths)) + 2 * layout.margin
    height = layout.pitch * len(lines) + 2 * layout.margin
    paper, ink = dice.between(225, 255), dice.between(0, 70)
    image = Image.new("L", (width, height), paper)
    pen = ImageDraw.Draw(image)
    words: list[list[Letter]] = []
    for number, line in enumerate(lines):
        y = layout.margin + number * layout.pitch
        if line == (SEPARATOR,):
            pen.line((layout.margin, y + layout.font // 2, width - layout.margin, y + layout.font // 2), ink)
            continue
        for part, x in zip(line, _starts(line, width, layout, font), strict=True):
            pen.text((x, y), part, ink, font)
            words += _words(part, x, y, font)
    angle = (dice.below(31) - 15) / 10
    turned = image.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor=paper)
    placed = tuple(tuple(_turned(word, angle, image.size, turned.size)) for word in words)
    return Print(_encoded(_noisy(turned, dice)), placed)


def _starts(line: Sequence[str], width: int, layout: Layout, font: ImageFont.FreeTypeFont) -> list[float]:
    """The x position of each part of a line."""
    left = float(layout.margin)
    if len(line) == 1:
        return [(width - font.getlength(line[0])) / 2 if layout.centred else left]
    at = left + font.getlength(line[0]) + layout.font
    return [left, width - layout.margin - font.getlength(line[1]) if layout.spread else at]


def _words(text: str, x: float, y: float, font: ImageFont.FreeTypeFont) -> list[list[Letter]]:
    # A third of the font size above the base line is the middle of most letters.
    middle = y + font.getmetrics()[0] - font.size / 3
    ends = [x + font.getlength(text[:count]) for count in range(len(text) + 1)]
    words: list[list[Letter]] = [[]]
    for character, start, end in zip(text, ends, ends[1:], strict=False):
        if character == " ":
            words.append([])
        else:
            words[-1].append(Letter(character, (start + end) / 2, middle))
    return [word for word in words if word]


def _turned(
    letters: Sequence[Letter], degrees: float, size: tuple[int, int], turned: tuple[int, int]
) -> Iterator[Letter]:
    """The letters of a picture of `size` at their positions after it was rotated counterclockwise about its
    middle.
    """
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    for letter in letters:
        x, y = letter.x - size[0] / 2, letter.y - size[1] / 2
        yield Letter(
            letter.character, cosine * x + sine * y + turned[0] / 2, cosine * y - sine * x + turned[1] / 2
        )


def _noisy(image: Image.Image, dice: Dice) -> Image.Image:
    """The image with noise of at most 12 levels."""
    levels = np.asarray(image, dtype=np.int16)
    strength = dice.below(13)
    noise = np.random.default_rng(dice.below(1 << 30)).integers(-strength, strength + 1, levels.shape)
    return Image.fromarray((levels + noise).clip(0, 255).astype(np.uint8))


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
