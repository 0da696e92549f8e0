from __future__ import annotations

import pytest

from scripts.environment.narrator import BEAT_S, Narrator
from tests.support.manual_clock import ManualClock


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def lines():
    return []


@pytest.fixture
def installed():
    return ["pip"]


@pytest.fixture
def narrator(clock, lines, installed):
    return Narrator(lines.append, clock, lambda: len(installed))


def test_a_large_download_has_a_line_and_small_ones_have_none(narrator, lines):
    narrator.pip_says("Collecting numpy==2.4.6 (from perigee)")
    narrator.pip_says("  Downloading numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.whl (16.6 MB)")
    narrator.pip_says("  Downloading https://host.example/torch-2.13.0%2Bcpu-cp311-linux.whl (190.2 MB)")
    narrator.pip_says("  Downloading idna-3.11-py3-none-any.whl (71 kB)")
    assert lines == ["  0:00  downloading numpy 2.4.6, 17 MB", "  0:00  downloading torch 2.13.0+cpu, 190 MB"]
    assert narrator.downloaded_mb == pytest.approx(206.871)


def test_it_is_never_silent_for_longer_than_a_beat_and_a_look(narrator, lines, clock):
    narrator.step("making .venv")
    for _ in range(30):
        clock.now += BEAT_S / 5
        narrator.beat()
    assert lines == [f"  0:{5 * n:02}  {'still ' if n else ''}making .venv" for n in range(7)]


def test_many_small_steps_of_pip_show_now_and_then(narrator, lines, clock):
    for name in ("grpcio", "httptools", "starlette"):
        clock.now += BEAT_S / 2
        narrator.pip_says(f"Collecting {name}==1 (from perigee)")
    assert lines == ["  0:05  still looking for httptools"]


def test_the_installation_says_how_many_packages_it_is_about(narrator, lines):
    narrator.pip_says("Installing collected packages: sympy, numpy, torch")
    assert lines == ["  0:00  installing 3 packages"]


def test_a_long_installation_counts_what_is_there(narrator, lines, installed, clock):
    narrator.pip_says("Installing collected packages: sympy, numpy, torch")
    installed += ["sympy", "numpy"]
    clock.now += BEAT_S
    narrator.beat()
    assert lines[1:] == ["  0:05  2 of 3 packages are installed"]
    narrator.step("done")
    clock.now += BEAT_S
    narrator.beat()
    assert lines[-1] == "  0:10  still done"
