"""What lm-eval's environment consists of is pinned, by hashes and without addresses."""

from __future__ import annotations

import re

PIN = re.compile(r"[a-z0-9-]+==[\w.+!]+ --hash=sha256:[0-9a-f]{64}")


def test_every_package_has_a_version_and_a_hash(repository):
    folder = repository / "tests" / "lm_eval"
    head, *pins = (folder / "requirements.txt").read_text().splitlines()
    assert head.startswith("#")
    assert all(PIN.fullmatch(pin) for pin in pins)
    [wanted] = (folder / "requirements.in").read_text().split()
    name, version = re.sub(r"\[.*\]", "", wanted).split("==")
    assert any(pin.startswith(f"{name}=={version} ") for pin in pins)
