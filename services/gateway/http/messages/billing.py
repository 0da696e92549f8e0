"""The line of accounting that a coding agent puts into its system prompt."""

from __future__ import annotations

import re

# Pairs alone, so that what a proxy has joined to them on the same line stays.
_HEADER = re.compile(r"x-anthropic-billing-header:(?:[ \t]*[\w-]+=[^;\s]*;?)*[ \t]*\n?")


def without_billing(text: str) -> str:
    """The text of a block of the system prompt, without the header it may begin with. Its checksum differs in
    every request, so that no two prompts would begin alike.
    """
    return _HEADER.sub("", text, count=1) if text.startswith("x-anthropic-") else text
