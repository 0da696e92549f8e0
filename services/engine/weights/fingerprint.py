"""The fingerprint of a checkpoint: workers must not share a cache if theirs differ."""

from __future__ import annotations

import hashlib
from pathlib import Path

from services.common.errors import CheckpointError
from services.engine.weights.headers import read_headers, shard_names

SAMPLES_PER_SHARD = 64
SAMPLE_BYTES = 16_384


def fingerprint(directory: Path) -> bytes:
    """SHA-256 (32 bytes) over config.json, every tensor's name, dtype and shape, and samples of each shard.

    The samples are evenly spread, and needed because two checkpoints of one shape differ only in their
    numbers. A shard below 1 MiB is hashed whole; a shard of 8 GiB costs 1 MiB of reading.
    """
    directory = Path(directory)
    digest = hashlib.sha256()
    try:
        _add(digest, (directory / "config.json").read_bytes())
        for name, header in sorted(read_headers(directory).items()):
            _add(digest, f"{name} {header.dtype} {header.shape} {header.shard}".encode())
        for shard in shard_names(directory):
            _add_samples(digest, directory / shard)
    except OSError as error:
        raise CheckpointError(f"{error.filename} cannot be read: {error.strerror}") from error
    return digest.digest()


def _add_samples(digest: hashlib._Hash, path: Path) -> None:
    size = path.stat().st_size
    _add(digest, str(size).encode())
    step = max(SAMPLE_BYTES, size // SAMPLES_PER_SHARD)
    with path.open("rb") as file:
        for offset in range(0, size, step):
            file.seek(offset)
            _add(digest, file.read(SAMPLE_BYTES))


def _add(digest: hashlib._Hash, part: bytes) -> None:
    # Each part follows its length, so that different lists of parts never give the same bytes.
    digest.update(len(part).to_bytes(8, "little"))
    digest.update(part)
