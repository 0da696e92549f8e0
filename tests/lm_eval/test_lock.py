"""What lm-eval's environment consists of is pinned, by hashes and without addresses."""

from __future__ import annotations

import re

from tests.support.locked_packages import PIN


def test_every_package_has_a_version_and_a_hash(repository):
    folder = repository / "tests" / "lm_eval"
    head, *pins = (folder / "requirements.txt").read_text().splitlines()
    assert head.startswith("#")
    assert all(PIN.fullmatch(pin) for pin in pins)
    [wanted] = (folder / "requirements.in").read_text().split()
    name, version = re.sub(r"\[.*\]", "", wanted).split("==")
    assert any(pin.startswith(f"{name}=={version} ") for pin in pins)
