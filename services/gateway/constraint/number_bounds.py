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
# Decimal places to which an excluded whole number is approached, and the most digits of the result: the
# library takes no more for exact.
_PLACES, _DIGITS = 9, 15
_BOUNDS = (("minimum", "exclusiveMinimum", -1), ("maximum", "exclusiveMaximum", 1))
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
    names = kinds if isinstance(kinds, list) else [kinds]
    bound_both = "integer" in names and not schema.keys() & {"enum", "const"}
    for bound, exclusive, sign in _BOUNDS:
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
    if names != ["integer"]:
        for bound, exclusive, sign in _BOUNDS:
            _step_inside(schema, bound, exclusive, sign)
    return findings


def _step_inside(schema: dict[str, Json], bound: str, exclusive: str, sign: int) -> None:
    """Replaces an excluded whole number by an included one beside it: the library generates the whole number
    where the other bound, perhaps that of another schema, is a fraction of the same whole part.
    """
    excluded = schema.get(exclusive)
    if excluded is None or excluded != int(excluded) or abs(excluded) >= _MOST_EXACT:
        return
    others = [schema[key] for pair in _BOUNDS for key in pair[:2] if pair[2] != sign and key in schema]
    gap = min((sign * (excluded - other) for other in others), default=math.inf)
    if gap <= 0:
        return  # nothing is between: the library says so
    places = min(_PLACES, max(0, _DIGITS - len(str(abs(int(excluded))))))
    inside = excluded - sign * min(10.0**-places, gap / 2)
    del schema[exclusive]
    schema[bound] = min(inside * sign, schema.get(bound, inside) * sign) * sign


def _inward(bound: int | float, sign: int) -> int | float:
    """The bound as a double, or the next one that excludes no less; `sign`: 1 of an upper bound."""
    if is_exact(bound):
        return bound
    nearest = float(bound)
    return int(nearest if sign * (int(nearest) - bound) <= 0 else math.nextafter(nearest, -sign * math.inf))
