"""Reading `tiktoken.model`: one base64 token and its rank a line."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from services.common.errors import CheckpointError

_MOST_FINDINGS = 10


def read_ranks(path: Path) -> dict[bytes, int]:
    """Token bytes to rank; ranks are 0, 1, 2… in the file's order, and every single byte is a token.

    Raises CheckpointError listing what is wrong, at most ten findings.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    ranks: dict[bytes, int] = {}
    findings: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        token = _token(line, expected_rank=len(ranks))
        if token is None or token in ranks:
            findings.append(f"{path}, line {number}: not an unseen base64 token with rank {len(ranks)}")
            if len(findings) == _MOST_FINDINGS:
                break
        else:
            ranks[token] = len(ranks)
    missing = [byte for byte in range(256) if bytes((byte,)) not in ranks]
    if missing and not findings:
        findings.append(f"{path}: no token for the bytes {', '.join(f'{byte:#04x}' for byte in missing)}")
    if findings:
        raise CheckpointError("\n".join(findings))
    return ranks


def _token(line: bytes, expected_rank: int) -> bytes | None:
    token, _, rank = line.partition(b" ")
    try:
        return base64.b64decode(token, validate=True) if int(rank) == expected_rank else None
    except (binascii.Error, ValueError):
        return None
