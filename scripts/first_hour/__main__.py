"""`make first-hour`: does what a new user does in the first hour, on a clean clone with an empty home.

Prints a line for each of its numbered checks: `n. what: ok (figure)`, or `failed` and what was found. It
clones the present commit and downloads what `make run` does. Exit status 0: every check holds; 1: one does
not.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from scripts.first_hour import commands, serving, setting_up
from scripts.first_hour.clone import Clone, make_clone
from scripts.first_hour.failed import Failed

Check = Callable[[Clone], str]

CHECKS: tuple[tuple[str, Check], ...] = (
    ("make run checks ports before it makes anything", setting_up.ports_first),
    ("a full disk, no CPU build of torch, another Python: said before a download", setting_up.disk_first),
    ("make run serves, from a clean clone with an empty home", setting_up.serves),
    ("make run downloads at most 420 MB", setting_up.downloads_little),
    ("make run is never silent for 10 s", setting_up.never_silent),
    ("compiled loops lie in the clone; the home has what is pip's alone", setting_up.stays_in_the_clone),
    ("the commands of the start screen answer", serving.greeting_answers),
    ("perigee status", serving.status),
    ("perigee logs [-f] [SERVICE]", serving.logs),
    ("perigee workers shows process ids", serving.workers_have_pids),
    ("perigee chat: conversation, standard input, --json, --timing", serving.chat),
    ("examples/", serving.examples),
    ("/docs is whole and needs no network", serving.docs_offline),
    ("perigee restart", serving.restart),
    ("perigee health says draining", serving.health_says_draining),
    ("Ctrl-C says what it waits for", serving.ctrl_c_says_what_it_waits_for),
    ("--host 0.0.0.0 without keys warns, a missing compiler shows; perigee stop", serving.warns_and_notes),
    ("perigee --version", commands.version),
    ("perigee completion", commands.completion),
    ("did you mean", commands.did_you_mean),
    ("bounds on every number, no traceback", commands.bounds),
    ("every setting of a service is reachable from run, and config show says where it is from",
     commands.settings_reach_a_service),
    ("durations have one spelling, internal flags are hidden", commands.one_spelling),
    ("make up and the images, without an engine", commands.containers),
    ("the table of SGLang's and vLLM's flags", commands.table_of_flags),
)  # fmt: skip


def run_checks(checks: Sequence[tuple[str, Check]], clone: Clone, write: Callable[[str], None]) -> int:
    """Runs the checks in order and writes a line for each; returns how many failed."""
    failures = 0
    for number, (what, check) in enumerate(checks, 1):
        try:
            verdict = f"ok ({check(clone)})"
        except Exception as error:  # noqa: BLE001 - whatever one check meets, the next ones are tried
            failures += 1
            found = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
            verdict = f"failed ({' / '.join(found.splitlines())})"
        write(f"{number}. {what}: {verdict}")
    return failures


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="make first-hour", description=__doc__, allow_abbrev=False)
    parser.add_argument("--python", default=sys.executable, help="with which the clone's .venv is made")
    parser.add_argument("--keep", action="store_true", help="leave the clone where it is, and say where")
    arguments = parser.parse_args(argv)
    repository = Path(__file__).resolve().parents[2]
    if subprocess.run(
        ["git", "status", "--porcelain"], cwd=repository, capture_output=True, check=True
    ).stdout:
        print("What is not committed is not in the clone.", flush=True)
    scratch = Path(tempfile.mkdtemp(prefix="perigee-first-hour-"))
    clone = make_clone(repository, scratch, arguments.python)
    try:
        failures = run_checks(CHECKS, clone, lambda line: print(line, flush=True))
    finally:
        serving.stopped(clone)
        if arguments.keep:
            print(f"the clone is {clone.directory}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    print(f"{len(CHECKS) - failures} of {len(CHECKS)} checks hold")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
