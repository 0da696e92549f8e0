"""Which letters are in each 28 x 28 pixels of a picture, which become one token."""

from __future__ import annotations

import string
from collections.abc import Sequence

import torch
from torch import Tensor

from services.common.kimi.media import MERGE_SIZE
from services.vision.preprocess import PATCH_SIZE
from training.skills.drawing import Letter

CELL = PATCH_SIZE * MERGE_SIZE
SLOTS = 4
"""Letters of a cell that count, from left to right; seldom are there more."""
CHARACTERS = string.digits + string.ascii_letters + string.punctuation
NUM_CLASSES = 1 + len(CHARACTERS)
NOTHING = 0


def letters_of_cells(letters: Sequence[Letter], rows: int, columns: int) -> Tensor:
    """int64 `[rows * columns, SLOTS]`, row-major over the cells: 1 + the index in CHARACTERS, NOTHING where
    there is none. A letter belongs to the cell that its middle is in.
    """
    labels = torch.full((rows * columns, SLOTS), NOTHING, dtype=torch.int64)
    used = [0] * (rows * columns)
    for letter in sorted(letters, key=lambda letter: (letter.y // CELL, letter.x)):
        row, column = int(letter.y // CELL), int(letter.x // CELL)
        cell = row * columns + column
        if 0 <= row < rows and 0 <= column < columns and used[cell] < SLOTS:
            labels[cell, used[cell]] = 1 + CHARACTERS.index(letter.character)
            used[cell] += 1
    return labels
