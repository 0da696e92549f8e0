from __future__ import annotations

import io
from decimal import Decimal

import numpy as np
from PIL import Image

from training.skills.dice import Dice
from training.skills.documents import Printer
from training.skills.lexicon import Lexicon
from training.skills.split import Split

PRINTER = Printer(Lexicon())


def test_the_total_is_the_sum_of_the_prices():
    for number in range(30):
        receipt = PRINTER.receipt(Dice("receipt", number), Split.TRAIN)
        assert sum(Decimal(item.price) for item in receipt.items) == Decimal(receipt.total)


def test_a_description_names_all_that_is_printed():
    for number in range(20):
        for paper in (PRINTER.receipt(Dice(number), Split.TRAIN), PRINTER.label(Dice(number), Split.TRAIN)):
            assert all(fact in paper.describe() for fact in paper.facts())


def test_pictures_vary_in_size_and_the_same_draw_gives_the_same_bytes():
    papers = [PRINTER.receipt(Dice(number), Split.TRAIN) for number in range(12)]
    sizes = {Image.open(io.BytesIO(paper.printed.picture)).size for paper in papers}
    assert len(sizes) > 8
    assert all(60 <= side <= 500 for size in sizes for side in size)
    assert PRINTER.receipt(Dice(3), Split.TRAIN) == papers[3]


def test_letters_are_where_the_ink_is_however_the_paper_was_turned():
    for number in range(10):
        printed = PRINTER.receipt(Dice(number), Split.TRAIN).printed
        levels = np.asarray(Image.open(io.BytesIO(printed.picture)))
        paper = np.median(levels)
        found = 0
        for letter in printed.letters:
            x, y = round(letter.x), round(letter.y)
            found += (paper - levels[y - 5 : y + 6, x - 5 : x + 6].min()) > 60
        # Dots and dashes are lower or thinner than where a letter has its middle.
        letters = sum(letter.character.isalnum() for letter in printed.letters)
        assert letters <= found + 1


def test_every_character_that_is_printed_is_in_the_font():
    """A missing one would be drawn as the font's box for it, and all missing ones alike."""
    from PIL import ImageFont

    font = ImageFont.load_default(20)
    missing = bytes(font.getmask("\u4e00"))
    lexicon = Lexicon()
    texts = ["0123456789.-$EUR TOTALTotalSumTo paybest beforeby"]
    texts += [word for theme in ("FOODS", "NAMES") for word in lexicon._words[theme]]
    texts.append("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    for character in set("".join(texts)) - {" "}:
        assert bytes(font.getmask(character)) != missing, character
