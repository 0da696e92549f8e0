"""Checks of commands that need no suite."""

from __future__ import annotations

from scripts.first_hour.clone import Clone
from scripts.first_hour.failed import expect

_WRONG = {
    "decode --kv-pages -1": "kv_pages: must be 1 to",
    "run --decode.threads 0": "threads: must be 1 to",
    "run --tp 9999999999": "tp: must be 1 to",
    "gateway --grace-seconds nan": "grace_seconds: must be 0 to",
    "vision --embedding-pages 2147483647": "embedding_pages: 2,147,483,647 pages are asked for; at most",
    "decode --staging-blocks 2147483647": "staging_blocks: 2,147,483,647 pages are asked for; at most",
    "chat hello --max-tokens -1": "--max-tokens: must be 0 to",
    "bench --timeout-seconds -1": "--timeout-seconds: must be above 0",
}
_MISSPELT = {
    "helth": "did you mean health?",
    "run --htp-port 1": "did you mean --http-port?",
    "run --kv-pages 5": "did you mean --prefill.kv-pages or --decode.kv-pages?",
    "workers --jsn": "did you mean --json?",
}


def version(clone: Clone) -> str:
    """--version in one line, and the version command with what it stands on."""
    shown = clone.answered("--version").strip()
    expect(shown.startswith("perigee ") and "\n" not in shown, shown)
    expect(shown in clone.answered("version"), "perigee version says something else")
    return shown


def completion(clone: Clone) -> str:
    """The script for bash completes a command and a setting of one service."""
    asked = (
        'eval "$(.venv/bin/perigee completion bash)"; COMP_WORDS=({words}); COMP_CWORD={at}; _perigee;'
        ' echo "${{COMPREPLY[@]}}"'
    )
    found = []
    for words, wanted in (("perigee sta", "status"), ("perigee run --decode.kv-p", "--decode.kv-pages")):
        script = asked.format(words=words, at=len(words.split()) - 1)
        done = clone.run("bash", "-c", script)
        expect(wanted in done.out.split(), f"{words}: {done.text.strip()}")
        found.append(wanted)
    for shell in ("zsh", "fish"):
        expect("perigee" in clone.answered("completion", shell), f"no script for {shell}")
    return ", ".join(found)


def did_you_mean(clone: Clone) -> str:
    """A misspelt command or flag gets the right one, in one line."""
    return _refused(clone, _MISSPELT)


def bounds(clone: Clone) -> str:
    """Every number has bounds, and none of these makes a traceback."""
    return f"{_refused(clone, _WRONG)}; {clone.tests('tests/cli/test_every_setting.py')}"


def settings_reach_a_service(clone: Clone) -> str:
    """A flag and a variable of one service are in what the suite would start with, and where each is from."""
    flag = clone.answered("config", "show", "--diff", "--decode.kv-pages", "2048", "--http-port", "8080")
    expect("kv_pages = 2048  # --decode.kv-pages" in flag and "http_port = 8080  # --http-port" in flag, flag)
    variable = clone.answered("config", "show", "--diff", env={"PERIGEE_DECODE_KV_PAGES": "2048"})
    expect("kv_pages = 2048  # PERIGEE_DECODE_KV_PAGES" in variable, variable)
    expect("[prefill]" not in variable, variable)
    return "--decode.kv-pages, PERIGEE_DECODE_KV_PAGES, config show --diff"


def one_spelling(clone: Clone) -> str:
    """Durations are in seconds and say so; flags that processes give each other are in no help."""
    return clone.tests(
        "tests/cli/test_every_setting.py::test_every_duration_is_called_seconds_and_is_in_seconds",
        "tests/cli/test_every_setting.py::test_every_flag_that_takes_a_duration_says_its_unit",
        "tests/cli/test_main.py::test_what_processes_tell_each_other_is_in_no_help",
    )


def containers(clone: Clone) -> str:
    """`make up` with a compose tool that notes what it is asked, and what the compose files say."""
    return clone.tests("tests/scripts/test_up.py", "tests/containers")


def table_of_flags(clone: Clone) -> str:
    """SGLang's and vLLM's flags beside ours."""
    return clone.tests("tests/test_flags_page.py")


def _refused(clone: Clone, cases: dict[str, str]) -> str:
    for words, said in cases.items():
        done = clone.perigee(*words.split())
        expect(done.status == 2 and said in done.err, f"perigee {words}: {done.status}, {done.err.strip()}")
        expect("Traceback" not in done.err, f"perigee {words}: a traceback")
    return f"{len(cases)} refused in one sentence"
