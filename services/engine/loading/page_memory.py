"""Whether as many pages as a setting asks for fit into memory."""

from __future__ import annotations

from services.common.errors import ConfigError


def check_pages(
    key: str, pages: int, page_bytes: int, memory: int, where: str = "this machine's memory"
) -> None:
    """Raises ConfigError, with what would fit, if `pages` of `page_bytes` bytes exceed `memory` bytes.

    `key`: the setting; `where`: what has that memory.
    """
    most = memory // page_bytes
    if pages > most:
        raise ConfigError(
            f"{key}: {pages:,} pages are asked for; at most {most:,} fit into {where}, {page_bytes:,} bytes"
            " each"
        )
