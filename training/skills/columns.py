"""Written arithmetic, column by column from the right; every step uses single digits only."""

from __future__ import annotations


def add(a: int, b: int) -> str:
    """`47 + 85: 7 + 5 = 12, carry 1. 4 + 8 + 1 = 13. 47 + 85 = 132.`"""
    if a < 10 and b < 10:
        return f"{a} + {b} = {a + b}."
    steps: list[str] = []
    carry = 0
    width = max(len(str(a)), len(str(b)))
    for place in range(width):
        left, right = _digit(a, place), _digit(b, place)
        total = left + right + carry
        step = f"{left} + {right}{' + 1' if carry else ''} = {total}"
        carry = total // 10
        steps.append(f"{step}{', carry 1' if carry and place < width - 1 else ''}.")
    return f"{a} + {b}: {' '.join(steps)} {a} + {b} = {a + b}."


def subtract(a: int, b: int) -> str:
    """`85 - 47: 15 - 7 = 8, borrow 1. 8 - 1 - 4 = 3. 85 - 47 = 38.`; requires `a` >= `b`."""
    if a < 10:
        return f"{a} - {b} = {a - b}."
    steps: list[str] = []
    borrow = 0
    for place in range(len(str(a))):
        left, right = _digit(a, place), _digit(b, place)
        lend = left - borrow < right
        rest = left + (10 if lend else 0) - borrow - right
        step = f"{left + (10 if lend else 0)}{' - 1' if borrow else ''} - {right} = {rest}"
        borrow = int(lend)
        steps.append(f"{step}{', borrow 1' if lend else ''}.")
    return f"{a} - {b}: {' '.join(steps)} {a} - {b} = {a - b}."


def multiply(a: int, b: int) -> str:
    """`24 * 6: 4 * 6 = 24, carry 2. 2 * 6 + 2 = 14. 24 * 6 = 144.`; one of the two has to be below 10."""
    if a < 10 and b < 10:
        return f"{a} * {b} = {a * b}."
    many, digit = max(a, b), min(a, b)
    steps: list[str] = []
    carry = 0
    width = len(str(many))
    for place in range(width):
        left = _digit(many, place)
        total = left * digit + carry
        step = f"{left} * {digit}{f' + {carry}' if carry else ''} = {total}"
        carry = total // 10
        steps.append(f"{step}{f', carry {carry}' if carry and place < width - 1 else ''}.")
    return f"{a} * {b}: {' '.join(steps)} {a} * {b} = {a * b}."


def divide(a: int, b: int) -> str:
    """`144 / 6: 14 / 6 = 2, rest 2. 24 / 6 = 4. 144 / 6 = 24.`; `b` has to be below 10 and divide `a`."""
    if a <= 9 * b:
        return f"{a} / {b} = {a // b}."
    steps: list[str] = []
    rest = 0
    for place in reversed(range(len(str(a)))):
        part = rest * 10 + _digit(a, place)
        if part < b and not steps:
            rest = part
            continue
        rest = part % b
        steps.append(f"{part} / {b} = {part // b}{f', rest {rest}' if rest else ''}.")
    return f"{a} / {b}: {' '.join(steps)} {a} / {b} = {a // b}."


def _digit(number: int, place: int) -> int:
    return int(str(number).zfill(place + 1)[-1 - place])
