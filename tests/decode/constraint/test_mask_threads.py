"""Masks beside the engine: the slow ones delay only their like."""

from __future__ import annotations

import threading

from services.decode.constraint.mask_threads import MaskThreads


class Fake:
    """A constraint whose mask is there when it is told; `full`: how often its lexer has to be renewed."""

    def __init__(self, work_s: float = 0.0, *, told: bool = True, full: bool = False) -> None:
        self.work_s = self.took_s = work_s
        self.told = threading.Event()
        self.full = full
        self.renewed_on = ""
        self.is_prepared = True
        if told:
            self.told.set()

    def advance(self, token_id: int) -> bool:
        self.is_prepared = False
        return True

    def prepare(self) -> bool:
        self.told.wait(30)
        if self.full:
            return False
        self.is_prepared = True
        return True

    def renew(self) -> None:
        self.renewed_on = threading.current_thread().name
        self.is_prepared = True


def step(masks: MaskThreads, *constraints: Fake) -> None:
    for constraint in constraints:
        if constraint.is_prepared:
            masks.advance(constraint, 1)
    masks.begin()


def until_ready(masks: MaskThreads, constraints: list[Fake], wanted: list[int]) -> None:
    while masks.ready(constraints) != wanted:
        pass


def test_slow_masks_hold_no_quick_one_however_many_they_are():
    masks = MaskThreads()
    slow = [Fake(0.5, told=False) for _ in range(8)]
    quick = Fake()
    for _ in range(5):
        step(masks, quick, *slow)
        until_ready(masks, [quick, *slow], [0])
    slow[0].told.set()
    until_ready(masks, [quick, *slow], [0, 1])
    for each in slow:
        each.told.set()
    until_ready(masks, [quick, *slow], list(range(9)))
    masks.close()


def test_a_grammar_is_compiled_anew_where_it_holds_nobody():
    masks = MaskThreads()
    full = Fake(full=True)
    step(masks, full)
    until_ready(masks, [full], [0])
    assert full.renewed_on.startswith("mask-slow")
    masks.close()
