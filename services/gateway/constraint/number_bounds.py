"""Numbers of a schema, made such that the grammar library can take them."""

from __future__ import annotations

import math

from services.families.conversation import Json

# Whole numbers that fit 64 bits, with room for the library's own arithmetic.
_MOST_INTEGER = 2**63 - 1025
# Up to here a double tells every whole number from the next.
_MOST_EXACT = 2**53
# Characters, items or members: more than any answer has.
_MOST_COUNT = 2**31 - 1
_LEAST = ("minLength", "minItems", "minProperties")
_MOST = ("maxLength", "maxItems", "maxProperties")


def is_exact(value: Json) -> bool:
    """Whether the library, which computes with doubles, keeps every whole number in it, at whatever depth."""
    if isinstance(value, dict):
        return all(map(is_exact, value.values()))
    if isinstance(value, list):
        return all(map(is_exact, value))
    return not isinstance(value, int) or abs(value) <= _MOST_EXACT


def within_64_bits(value: Json) -> Json:
    """A copy whose whole numbers are the nearest of 64 bits."""
    if isinstance(value, dict):
        return {key: within_64_bits(member) for key, member in value.items()}
    if isinstance(value, list):
        return [within_64_bits(item) for item in value]
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return max(-(2**63), min(value, 2**63 - 1)) if is_whole else value


def fit_counts(schema: dict[str, Json]) -> dict[str, str]:
    """Makes counts small whole numbers; a bound above all answers is dropped. Why not, by keyword, of those
    that were dropped although they say something.
    """
    findings = {}
    for key in (*_LEAST, *_MOST):
        if key not in schema:
            continue
        schema[key] = int(schema[key])
        if schema[key] > _MOST_COUNT:
            del schema[key]
            if key in _LEAST:
                findings[key] = "no answer is that long"
    return findings


def fit_range(schema: dict[str, Json]) -> dict[str, str]:
    """Narrows bounds to 64 bits, and gives whole numbers both, unless their values are listed. Why not, by
    keyword, of those that were dropped because nothing is left between.
    """
    findings = {}
    kinds = schema.get("type")
    is_whole = "integer" in (kinds if isinstance(kinds, list) else [kinds])
    bound_both = is_whole and not schema.keys() & {"enum", "const"}
    for bound, exclusive, sign in (
        ("minimum", "exclusiveMinimum", -1),
        ("maximum", "exclusiveMaximum", 1),
    ):
        outermost = sign * _MOST_INTEGER
        for key in (bound, exclusive):
            if key not in schema:
                continue
            if sign * schema[key] < -_MOST_INTEGER:
                findings[key] = "it leaves no number of 64 bits"
                del schema[key]
            elif sign * schema[key] > _MOST_INTEGER:
                del schema[key]
                schema.setdefault(bound, outermost)
            else:
                schema[key] = _inward(schema[key], sign)
        if bound_both and not schema.keys() & {bound, exclusive}:
            schema[bound] = outermost
    return findings


def _inward(bound: int | float, sign: int) -> int | float:
    """The bound as a double, or the next one that excludes no less; `sign`: 1 of an upper bound."""
    if is_exact(bound):
        return bound
    nearest = float(bound)
    return int(nearest if sign * (int(nearest) - bound) <= 0 else math.nextafter(nearest, -sign * math.inf))
