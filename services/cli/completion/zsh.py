"""The completion script of zsh."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from services.cli.completion.words import Command, quoted, steps
from services.cli.roles import ROLES

_SCRIPT = """\
#compdef perigee
# For ~/.zshrc, after compinit: source <(perigee completion zsh)
_perigee() {
  local command="" word previous=$words[CURRENT-1]
  local -a found settings
  for word in ${words[2,CURRENT-1]}; do
    case "$command/$word" in
      (@STEPS@) command="${command:+$command }$word" ;;
    esac
  done
  case "$command:$previous" in
@VALUES@
  esac
  case "$command" in
@WORDS@
  esac
  case "$words[CURRENT]" in
    (@ROLES@) compadd -a settings ;;
  esac
  _describe perigee found
}
if [ "$funcstack[1]" = _perigee ]; then _perigee "$@"; else compdef _perigee perigee; fi
"""


def script(commands: Sequence[Command]) -> str:
    """Returns a script to be sourced, or to be put into $fpath as _perigee."""
    return (
        _SCRIPT.replace("@STEPS@", "|".join(steps(commands)))
        .replace("@VALUES@", "\n".join(line for command in commands for line in _values(command)))
        .replace("@WORDS@", "\n".join(map(_words, commands)))
        .replace("@ROLES@", "|".join(f"--{role}*" for role in ROLES))
    )


def _values(command: Command) -> Iterator[str]:
    for name, flag in command.with_values:
        answer = f"compadd -- {' '.join(flag.choices)}" if flag.choices else "_files"
        yield f"    ({quoted(f'{command.name}:{name}')}) {answer}; return ;;"


def _words(command: Command) -> str:
    found = " ".join(quoted(f"{word}:{text}") for word, text in command.offered)
    settings = f"; settings=({' '.join(command.settings)})" if command.settings else ""
    return f"    ({quoted(command.name)}) found=({found}){settings}{'; _files' if command.files else ''} ;;"
