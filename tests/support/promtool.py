"""Prometheus' own checks of rules, where they are installed."""

from __future__ import annotations

import shutil
import subprocess

import pytest


def promtool(*words: str) -> str:
    """Runs promtool and returns what it says; fails with that if it finds something. Skips without it."""
    command = shutil.which("promtool")
    if command is None:
        pytest.skip("promtool is not installed: it is in Debian's package prometheus")
    done = subprocess.run([command, *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
