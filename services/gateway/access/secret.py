"""API keys as text, and what is kept of them."""

from __future__ import annotations

import hashlib
import secrets

PREFIX = "perigee_"
"""The begin of every key, by which scanners for secrets find one that was published by mistake."""


def new_key() -> str:
    """Makes a key: the prefix and 256 random bits in hexadecimal digits."""
    return PREFIX + secrets.token_hex(32)


def digest(key: str) -> str:
    """Returns the SHA-256 of a key, in hexadecimal digits.

    A key is as random as its digest, so no slow hash or salt is needed. Keys are looked up by their digest:
    the time that takes depends on the digest alone, which nobody can choose.
    """
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
