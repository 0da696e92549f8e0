"""The letters and tokens written in each 28 x 28 pixel cell of a picture; a cell becomes one token."""

from __future__ import annotations

import string
from collections.abc import Sequence

import torch
from torch import Tensor

from services.families.kimi.media import MERGE_SIZE
from services.families.kimi.tokenizer import KimiTokenizer
from services.vision.preprocess import PATCH_SIZE
from training.skills.drawing import Letter

CELL = PATCH_SIZE * MERGE_SIZE
SLOTS = 4
"""Letters of a cell that are used as targets, from left to right; a cell seldom has more."""
CHARACTERS = string.digits + string.ascii_letters + string.punctuation
NUM_CLASSES = 1 + len(CHARACTERS)
NOTHING = 0
STARTS = 3
"""Tokens starting in a cell that are used as targets; a cell seldom has more."""
NO_TOKEN = -1


def letters_of_cells(letters: Sequence[Letter], rows: int, columns: int) -> Tensor:
    """int64 `[rows * columns, SLOTS]`, row-major over the cells: 1 + the index in CHARACTERS, NOTHING for an
    empty slot. A letter belongs to the cell that contains its middle.
    """
    labels = torch.full((rows * columns, SLOTS), NOTHING, dtype=torch.int64)
    used = [0] * (rows * columns)
    for letter in sorted(letters, key=lambda letter: (letter.y // CELL, letter.x)):
        cell = _cell(letter, rows, columns)
        if cell is not None and used[cell] < SLOTS:
            labels[cell, used[cell]] = 1 + CHARACTERS.index(letter.character)
            used[cell] += 1
    return labels


def tokens_of_cells(
    words: Sequence[Sequence[Letter]], rows: int, columns: int, tokenizer: KimiTokenizer
) -> Tensor:
    """int64 `[rows * columns, STARTS + 1]`: ids of the tokens that start in a cell, in reading order, then
    the token before them; NO_TOKEN for an empty place. A token starts in the cell of its first letter.
    """
    labels = torch.full((rows * columns, STARTS + 1), NO_TOKEN, dtype=torch.int64)
    used = [0] * (rows * columns)
    before = NO_TOKEN
    for word in words:
        at = 0
        for token in tokenizer.encode("".join(letter.character for letter in word)):
            cell = _cell(word[at], rows, columns)
            at += len(tokenizer.token_bytes(token))
            if cell is not None and used[cell] < STARTS:
                if not used[cell]:
                    labels[cell, STARTS] = before
                labels[cell, used[cell]] = token
                used[cell] += 1
            before = token
    return labels


def _cell(letter: Letter, rows: int, columns: int) -> int | None:
    row, column = int(letter.y // CELL), int(letter.x // CELL)
    return row * columns + column if 0 <= row < rows and 0 <= column < columns else None
