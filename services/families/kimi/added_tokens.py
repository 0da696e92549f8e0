"""Reading `tokenizer_config.json`: which special slot has which name, and which are hidden from readers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.common.errors import CheckpointError
from services.families.kimi.special import NUM_SLOTS


@dataclass(frozen=True)
class AddedTokens:
    """All special slots. `ids`: name to id, one per slot; `flagged`: ids whose entry says `special: true`."""

    ids: dict[str, int]
    flagged: frozenset[int]


def read_added_tokens(path: Path, num_ranks: int) -> AddedTokens:
    """The NUM_SLOTS slots directly above the ranks; one without an entry is `<|reserved_token_{id}|>`.

    Raises CheckpointError listing all that is wrong.
    """
    names: dict[int, str] = {}
    flagged: set[int] = set()
    findings: list[str] = []
    for key, entry in _decoder(path).items():
        if not key.isdecimal() or not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
            findings.append(f"{path}: added_tokens_decoder[{key!r}] is not an id with a content")
        elif not num_ranks <= int(key) < num_ranks + NUM_SLOTS:
            findings.append(
                f"{path}: id {key} of {entry['content']!r} is not one of the {NUM_SLOTS} directly above the"
                f" {num_ranks} ranks"
            )
        elif entry["content"] in names.values() or not entry["content"]:
            findings.append(f"{path}: {entry['content']!r}, id {key}, is empty or has two ids")
        else:
            names[int(key)] = entry["content"]
            if entry.get("special") is True:
                flagged.add(int(key))
    if findings:
        raise CheckpointError("\n".join(findings))
    slots = range(num_ranks, num_ranks + NUM_SLOTS)
    ids = {names.get(slot, f"<|reserved_token_{slot}|>"): slot for slot in slots}
    return AddedTokens(ids, frozenset(flagged))


def _decoder(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON: {error}") from error
    decoder = config.get("added_tokens_decoder") if isinstance(config, dict) else None
    if not isinstance(decoder, dict):
        raise CheckpointError(f"{path}: added_tokens_decoder is missing")
    return decoder
