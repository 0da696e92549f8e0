"""The completion script of fish."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from services.cli.completion.words import Command, Flag, quoted, steps

_SCRIPT = """\
# For ~/.config/fish/config.fish: perigee completion fish | source
function __perigee_at
    set -l command ''
    for word in (commandline -opc)
        switch "$command/$word"
            case @STEPS@
                set command (string trim -- "$command $word")
        end
    end
    test "$command" = "$argv[1]"
end
complete -c perigee -f
"""


def script(commands: Sequence[Command]) -> str:
    """Returns a script for fish 3 and later."""
    lines = [line for command in commands for line in _lines(command)]
    return _SCRIPT.replace("@STEPS@", " ".join(steps(commands))) + "\n".join([*lines, ""])


def _lines(command: Command) -> Iterator[str]:
    start = f"complete -c perigee -n '__perigee_at \"{command.name}\"'"
    for word, text in command.nexts:
        yield f"{start} -a {quoted(word)} -d {quoted(text)}"
    if command.files:
        yield f"{start} -F"
    for flag in command.flags:
        spelt = " ".join(
            f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in flag.names
        )
        yield f"{start} {spelt}{_value(flag)} -d {quoted(flag.help)}"


def _value(flag: Flag) -> str:
    choices = f" -a {quoted(' '.join(flag.choices))}" if flag.choices else ""
    return {"nothing": "", "file": " -r -F", "text": " -x"}[flag.takes] + choices
