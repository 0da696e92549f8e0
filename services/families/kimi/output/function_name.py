"""The name of a function in the id of a call."""

from __future__ import annotations

from collections.abc import Set


def function_name(call_id: str, tools: Set[str]) -> str:
    """The name in `functions.NAME:IDX`: what is before the last colon, without that prefix.

    Dots, dashes, colons and any script may be part of it; white space around it is not. The model sometimes
    forgets the prefix or the index, and sometimes writes nothing but an index: with one tool declared, that
    one is meant. Empty: no name.
    """
    head, colon, _ = call_id.strip().rpartition(":")
    name = (head if colon else call_id).strip().removeprefix("functions.")
    if len(tools) == 1 and (not name or name.isdecimal()):
        [name] = tools
    return name
