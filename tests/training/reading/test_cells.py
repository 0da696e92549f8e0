from __future__ import annotations

import pytest

from services.families.kimi.tokenizer import KimiTokenizer
from training.reading.cells import (
    CHARACTERS,
    NO_TOKEN,
    NOTHING,
    SLOTS,
    STARTS,
    letters_of_cells,
    tokens_of_cells,
)
from training.skills.drawing import Letter


@pytest.fixture(scope="module")
def tokenizer(nano_dir):
    return KimiTokenizer.from_dir(nano_dir)


def read(labels):
    return ["".join(CHARACTERS[index - 1] for index in cell if index != NOTHING) for cell in labels.tolist()]


def test_a_letter_belongs_to_the_cell_of_its_middle_and_stands_in_reading_order():
    letters = [Letter("b", 20, 40), Letter("a", 3, 45), Letter("7", 29, 30), Letter("X", 10, 27.9)]
    assert read(letters_of_cells(letters, rows=2, columns=2)) == ["X", "", "ab", "7"]


def test_what_is_outside_of_the_picture_or_too_much_for_a_cell_does_not_count():
    letters = [Letter("a", 1 + place, 5) for place in range(SLOTS + 2)]
    letters += [Letter("z", 60, 5), Letter("z", 5, -3)]
    assert read(letters_of_cells(letters, rows=1, columns=2)) == ["a" * SLOTS, ""]


def test_a_token_belongs_to_the_cell_where_it_begins_and_the_one_before_it_is_remembered(tokenizer):
    first, second = tokenizer.encode("3"), tokenizer.encode("total")
    words = [[Letter("3", 3, 5)], [Letter(letter, 10 + 12 * at, 5) for at, letter in enumerate("total")]]
    labels = tokens_of_cells(words, rows=1, columns=3, tokenizer=tokenizer)
    starts = [
        len("".join(map(tokenizer.decode, ([token] for token in second[:count]))))
        for count in range(len(second))
    ]
    wanted = [[], [], []]
    for token, x in zip([*first, *second], [3, *(10 + 12 * start for start in starts)], strict=True):
        wanted[x // 28].append(token)
    assert [[token for token in cell[:STARTS] if token != NO_TOKEN] for cell in labels.tolist()] == wanted
    assert labels[0, STARTS] == NO_TOKEN
    assert [cell[STARTS] for cell in labels.tolist()[1:] if cell[0] != NO_TOKEN] == [
        wanted[index - 1][-1] for index in (1, 2) if wanted[index]
    ]


def test_tokens_in_cells_outside_of_the_picture_are_only_remembered(tokenizer):
    (one,), (two,) = tokenizer.encode("1"), tokenizer.encode("2")
    labels = tokens_of_cells([[Letter("1", -5, 5)], [Letter("2", 5, 5)]], 1, 1, tokenizer)
    assert labels.tolist() == [[two, NO_TOKEN, NO_TOKEN, one]]
