"""The grammar of a section of tool calls, in llguidance's dialect of Lark."""

from __future__ import annotations

import json
from collections.abc import Sequence

from services.families.conversation import Json
from services.families.grammar import ToolGrammar, json_rule
from services.families.kimi.special import SpecialTokens

# Between the parts of arguments as the model writes them: one space or none.
_ARGUMENT_SPACE: dict[str, Json] = {
    "whitespace_flexible": False,
    "item_separator": ", ?",
    "key_separator": ": ?",
}


def section_rules(
    tools: Sequence[ToolGrammar], special: SpecialTokens, first_index: int, max_calls: int
) -> str:
    """The rules of a section of 1 to `max_calls` calls, numbered from `first_index`.

    A rule's parameter counts the calls: each is `functions.NAME:IDX`, where NAME decides the arguments.
    """
    bodies = "\n    | ".join(
        f"{json.dumps(f'functions.{tool.name}:', ensure_ascii=False)} index::_"
        f" <[{special.tool_call_argument_begin}]> arguments_{number}"
        for number, tool in enumerate(tools)
    )
    indices = "\n    | ".join(f'"{first_index + count}" %if eq(_, {count})' for count in range(max_calls))
    arguments = "".join(
        f"arguments_{number}: {json_rule(tool.schema, _ARGUMENT_SPACE)}\n"
        for number, tool in enumerate(tools)
    )
    return (
        f"section: <[{special.tool_calls_section_begin}]> calls::0 <[{special.tool_calls_section_end}]>\n"
        f"calls::_ : call::_ | call::_ calls::incr(_) %if lt(_, {max_calls - 1})\n"
        f"call::_ : <[{special.tool_call_begin}]> body::_ <[{special.tool_call_end}]>\n"
        f"body::_ : {bodies}\n"
        f"index::_ : {indices}\n"
        f"{arguments}"
    )
