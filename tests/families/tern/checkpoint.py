"""A checkpoint of the family that only these tests know, and where its package is."""

from __future__ import annotations

import json
from pathlib import Path

SITE = Path(__file__).parent / "site"
CONFIG = {"model_type": "tern", "wingspan": 48, "layers": 3, "heads": 4, "reach": 2048, "words": 260}
MARKERS = {"{{you}}": 256, "{{bird}}": 257, "{{note}}": 258, "{{stop}}": 259}


def write_checkpoint(directory: Path) -> Path:
    """Random weights; its package must be importable."""
    from services.engine.weights.random_checkpoint import write_random_checkpoint

    write_random_checkpoint(directory, CONFIG, seed=11)
    (directory / "markers.json").write_text(json.dumps(MARKERS))
    return directory
