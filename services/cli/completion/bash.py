"""The completion script of bash."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from services.cli.completion.words import Command, quoted, steps
from services.cli.roles import ROLES

_SCRIPT = """\
# For ~/.bashrc: source <(perigee completion bash)
_perigee() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}
  local command="" words="" settings="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$command/${COMP_WORDS[i]}" in
      @STEPS@) command="${command:+$command }${COMP_WORDS[i]}" ;;
    esac
  done
  COMPREPLY=()
  case "$command:$previous" in
@VALUES@
  esac
  case "$command" in
@WORDS@
  esac
  case "$current" in
    @ROLES@) words="$words $settings" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o bashdefault -o default -F _perigee perigee
"""


def script(commands: Sequence[Command]) -> str:
    """Returns a script for bash 4 and later. Files are completed by bash itself, where nothing else is."""
    return (
        _SCRIPT.replace("@STEPS@", "|".join(steps(commands)))
        .replace("@VALUES@", "\n".join(line for command in commands for line in _values(command)))
        .replace("@WORDS@", "\n".join(map(_words, commands)))
        .replace("@ROLES@", "|".join(f"--{role}*" for role in ROLES))
    )


def _values(command: Command) -> Iterator[str]:
    for name, flag in command.with_values:
        words = " ".join(flag.choices)
        answer = f'COMPREPLY=($(compgen -W "{words}" -- "$current")); ' if words else ""
        yield f"    {quoted(f'{command.name}:{name}')}) {answer}return ;;"


def _words(command: Command) -> str:
    words = " ".join(word for word, _ in command.offered)
    settings = f' settings="{" ".join(command.settings)}"' if command.settings else ""
    return f'    {quoted(command.name)}) words="{words}"{settings} ;;'
