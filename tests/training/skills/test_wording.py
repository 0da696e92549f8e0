from __future__ import annotations

import pytest

from training.skills.dice import Dice
from training.skills.wording import expand


def test_all_alternatives_come_up_nested_ones_too():
    found = {expand("[a|b[c|d|]] {x}", Dice(number)) for number in range(100)}
    assert found == {"a {x}", "bc {x}", "bd {x}", "b {x}"}


@pytest.mark.parametrize("pattern", ["[a|b", "a]", "a|b"])
def test_unmatched_brackets_are_errors(pattern):
    with pytest.raises(ValueError, match="bracket"):
        expand(pattern, Dice(1))
