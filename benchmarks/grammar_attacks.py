"""Grammars with which one caller can hurt others; part of benchmarks.attacks.

Each is sent eight times at once. Meanwhile a neighbour asks repeatedly for a JSON object, and must be
answered at most a second later than without them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

from benchmarks.target import Target, chat

_AT_ONCE = 8
_LATE_S = 1.0
_OBJECT = {"response_format": {"type": "json_object"}, "max_tokens": 8, "thinking": {"type": "disabled"}}
_HUGE = 10**300


def _doubling(times: int) -> str:
    rules = "".join(f"r{number} ::= r{number + 1} r{number + 1}\n" for number in range(times))
    return f'root ::= r0\n{rules}r{times} ::= "a"\n'


def _tool(properties: Mapping[str, object]) -> dict[str, object]:
    parameters = {"type": "object", "properties": properties}
    return {"tools": [{"type": "function", "function": {"name": "f", "parameters": parameters}}]}


def _answer(properties: Mapping[str, object]) -> dict[str, object]:
    """Unlike a tool's schema, this one is not part of the prompt."""
    schema = {"type": "object", "properties": properties}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}


def _patterns(pattern: str, count: int) -> dict[str, object]:
    return {f"p{number}": {"type": "string", "pattern": f"{pattern}{number}"} for number in range(count)}


_FIELDS: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "regex_million": {"regex": "(a{1000}){1000}"},
        "regex_nothing": {"regex": r"[^\s\S]"},
        "regex_states": {"regex": "(.*[ab].{9}[cd])+", "max_tokens": 200},
        "ebnf_doubling_60": {"ebnf": _doubling(60)},
        "ebnf_doubling_20": {"ebnf": _doubling(20)},
        "ebnf_loop": {"ebnf": "root ::= a\na ::= root"},
        "ebnf_repeats": {"ebnf": 'root ::= x{1000}\nx ::= y{1000}\ny ::= "a"{1000}'},
        "schema_minimum": _tool({"x": {"type": "integer", "minimum": -_HUGE}}),
        "schema_const": _tool({"x": {"const": -(2**63) + 1}}),
        "schema_optional": _answer({f"p{number}": {} for number in range(900)}),
        "schema_patterns": _tool(_patterns(r"^\w{100}(?!x)", 100)),
        "schema_many_patterns": _answer(_patterns(r"^([a-z]|\d+){1,50}", 900)),
    }
)


def _attack(fields: dict[str, Any]) -> Callable[[Target], Counter[str]]:
    def send(target: Target) -> Counter[str]:
        chat(target, **_OBJECT)
        began = time.monotonic()
        chat(target, **_OBJECT)
        usual_s = time.monotonic() - began
        heard: Counter[str] = Counter()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            sent = [
                pool.submit(chat, target, **{"max_tokens": 20, "thinking": {"type": "disabled"}, **fields})
                for _ in range(_AT_ONCE)
            ]
            worst_s = 0.0
            while True:
                is_last, began = all(each.done() for each in sent), time.monotonic()
                neighbours = chat(target, **_OBJECT)
                worst_s = max(worst_s, time.monotonic() - began - usual_s)
                heard += Counter({f"a neighbour's: {status}": n for status, n in neighbours.items()})
                if is_last:
                    break
            for each in sent:
                heard += each.result()
        late = " 599 too late" if worst_s > _LATE_S else ""
        heard[f"a neighbour's delay{late}: {worst_s:.2f} s"] += 1
        return heard

    return send


GRAMMAR_ATTACKS: Mapping[str, Callable[[Target], Counter[str]]] = MappingProxyType(
    {name: _attack(fields) for name, fields in _FIELDS.items()}
)
