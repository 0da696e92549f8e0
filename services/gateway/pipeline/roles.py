"""The roles of a conversation."""

from __future__ import annotations

from services.common.errors import InvalidRequest

_ROLES = ("system", "user", "assistant", "tool")


def template_role(role: str, param: str) -> str:
    """The role the model's template knows; OpenAI's newer `developer` is its `system`.

    Raises InvalidRequest naming `param`.
    """
    if role == "developer":
        return "system"
    if role not in _ROLES:
        raise InvalidRequest(f"{param} is {role!r}; it must be one of {', '.join(_ROLES)}", param)
    return role
