"""The corpus's word lists, from words.txt beside this file."""

from __future__ import annotations

from pathlib import Path


def load_words() -> dict[str, list[str]]:
    """Maps each list's name to its words, both in the file's order."""
    lists: dict[str, list[str]] = {}
    words: list[str] = []
    for line in Path(__file__).with_name("words.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            words = lists.setdefault(line.strip("[]"), [])
        elif not line.startswith("#"):
            words += line.split()
    return lists
