"""The roles of a conversation."""

from __future__ import annotations

from services.common.errors import InvalidRequest

ROLES = ("system", "user", "assistant", "tool", "developer")


def template_role(role: str, param: str) -> str:
    """The role the model's template knows; OpenAI's newer `developer` is its `system`.

    Raises InvalidRequest naming `param`.
    """
    if role not in ROLES:
        raise InvalidRequest(f"{param} is {role!r}; it must be one of {', '.join(ROLES)}", param)
    return "system" if role == "developer" else role
