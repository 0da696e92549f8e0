from __future__ import annotations

from training.reading.cells import CHARACTERS, NOTHING, SLOTS, letters_of_cells
from training.skills.drawing import Letter


def read(labels):
    return ["".join(CHARACTERS[index - 1] for index in cell if index != NOTHING) for cell in labels.tolist()]


def test_a_letter_belongs_to_the_cell_of_its_middle_and_stands_in_reading_order():
    letters = [Letter("b", 20, 40), Letter("a", 3, 45), Letter("7", 29, 30), Letter("X", 10, 27.9)]
    assert read(letters_of_cells(letters, rows=2, columns=2)) == ["X", "", "ab", "7"]


def test_what_is_outside_of_the_picture_or_too_much_for_a_cell_does_not_count():
    letters = [Letter("a", 1 + place, 5) for place in range(SLOTS + 2)]
    letters += [Letter("z", 60, 5), Letter("z", 5, -3)]
    assert read(letters_of_cells(letters, rows=1, columns=2)) == ["a" * SLOTS, ""]
