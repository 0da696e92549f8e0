"""What is written to terminals."""

from __future__ import annotations

DIM, BOLD, RED, YELLOW, PLAIN = "\x1b[2m", "\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[0m"
# Texts of others must not control the terminal: control characters except newline and tab are replaced.
_HARMLESS = {code: "�" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def harmless(text: str) -> str:
    """Returns the text without control characters that a terminal would obey."""
    return text.translate(_HARMLESS)
