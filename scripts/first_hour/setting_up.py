"""Checks of `make run` in a clone that nothing was installed in."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from scripts.first_hour.clone import ANY_PORTS, Clone
from scripts.first_hour.downloads import downloaded_bytes
from scripts.first_hour.failed import expect
from scripts.first_hour.watched import longest_silence

MOST_MB = 420
MOST_SILENCE_S = 10.0
_READY = r"^Perigee is ready"
_SET_UP_S = 1800.0
# Its cache, and what a Rust of rustup notes when pip asks for its version, to tell the index.
_OF_PIP = (Path(".cache/pip"), Path(".rustup"))


def ports_first(clone: Clone) -> str:
    """A taken port stops it before anything is made."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        flags = f"{' '.join(ANY_PORTS)} --http-port {port}"
        done = clone.run("make", "run", f"PYTHON={clone.python}", f"ARGS={flags}")
    said = f"port {port} is in use: stop what listens there, or choose another with --http-port"
    expect(done.status != 0 and said in done.text, done.text.strip())
    expect(not (clone.directory / ".venv").exists(), ".venv was made")
    return "nothing was made"


def disk_first(clone: Clone) -> str:
    """What a full disk, a machine without a CPU build of torch in sight, and another Python get."""
    tests = "tests/scripts/test_environment.py"
    return clone.tests(
        f"{tests}::test_a_full_disk_stops_it_before_pip_is_asked",
        f"{tests}::test_where_only_the_cuda_build_is_in_sight_nothing_is_downloaded_and_one_line_says_what_to_set",
        f"{tests}::test_an_environment_of_another_python_is_not_mixed_with_this_one",
    )


def serves(clone: Clone) -> str:
    """Sets up and starts; what runs stays for the checks that follow."""
    clone.suite = clone.make_run(*ANY_PORTS)
    line = clone.suite.until(_READY, _SET_UP_S)
    return f"{line.at:.0f} s"


def downloads_little(clone: Clone) -> str:
    """By pip's log."""
    log = (clone.directory / ".venv" / "setup.log").read_text(errors="replace").splitlines()
    megabytes = downloaded_bytes(log) / 1e6
    expect(0 < megabytes <= MOST_MB, f"{megabytes:.0f} MB, at most {MOST_MB}")
    return f"{megabytes:.0f} MB of at most {MOST_MB}"


def never_silent(clone: Clone) -> str:
    """From the call of make until it is ready."""
    assert clone.suite is not None
    lines = list(clone.suite.lines)
    ready = next((place for place, line in enumerate(lines) if re.search(_READY, line.text)), None)
    expect(ready is not None, "it never got ready")
    silence = longest_silence(lines[: (ready or 0) + 1])
    expect(silence < MOST_SILENCE_S, f"silent for {silence:.1f} s")
    return f"at most {silence:.1f} s"


def stays_in_the_clone(clone: Clone) -> str:
    """Compiled loops lie in .venv, and the home has what is pip's alone."""
    loops = [path for name in (".venv", ".run") for path in (clone.directory / name).rglob("perigee/*.so")]
    expect(len(loops) == 1, f"compiled loops: {', '.join(map(str, loops)) or 'none'}")
    found = [path.relative_to(clone.home) for path in clone.home.rglob("*") if path.is_file()]
    others = [path for path in found if not any(map(path.is_relative_to, _OF_PIP))]
    expect(not others, f"in the home: {', '.join(map(str, others))}")
    return f"{loops[0].relative_to(clone.directory).parent}"
