"""`perigee chat`: a question, or a conversation, answered as it is generated."""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import sys

from services.cli.chat.answer import Answer
from services.cli.chat.conversation import Conversation, read_image
from services.cli.chat.dialogue import Dialogue
from services.cli.chat.printer import ChatPrinter
from services.cli.connection.gateway_address import add_address_flag, connected_to_door
from services.cli.parser import check_range
from services.common.client import ChatOptions, PerigeeClient
from services.common.errors import ConfigError

_STDIN = "-"
_MOST_CHARACTERS = 16 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = (
        "Asks TEXT and prints the answer as it comes. Without TEXT it takes the question from standard input "
        "or, if that is a terminal, holds a conversation; /help there lists its commands."
    )
    parser.add_argument("text", nargs="?", metavar="TEXT", help=f"the message; {_STDIN}: standard input")
    parser.add_argument("--system", default="", metavar="TEXT", help="what the model is told before it")
    parser.add_argument(
        "--image", action="append", default=[], metavar="FILE", help="an image to attach; may be repeated"
    )
    parser.add_argument("--no-thinking", action="store_true", help="answer without reasoning first")
    add_address_flag(parser)
    parser.add_argument(
        "--model", default="", metavar="NAME", help="served model name (default: the only one)"
    )
    parser.add_argument(
        "--max-tokens", type=int, default=1024, metavar="N", help="most tokens to generate (default: 1024)"
    )
    parser.add_argument("--temperature", type=float, metavar="T", help="sampling temperature; 0 is greedy")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="seed of the sampling; the same seed repeats an answer"
    )
    parser.add_argument("--timing", action="store_true", help="say how long an answer took, and tokens/s")
    parser.add_argument(
        "--json", action="store_true", help="print each answer as a line of JSON when it is whole"
    )
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Streams answers to stdout; token counts, times and an early end go to stderr."""
    check_range("--max-tokens", arguments.max_tokens, 0, (1 << 32) - 1)
    check_range("--seed", arguments.seed, 0, (1 << 64) - 1)
    options = ChatOptions(
        model=arguments.model,
        thinking=False if arguments.no_thinking else None,
        max_tokens=arguments.max_tokens,
        temperature=arguments.temperature,
        seed=arguments.seed,
    )
    text, images = _text(arguments.text), [read_image(path, "--image") for path in arguments.image]
    with connected_to_door(arguments) as channel:
        ask = functools.partial(PerigeeClient(channel).chat, options=options)
        conversation = Conversation(ask, _sendable(arguments.system), images)
        answer = functools.partial(_answer, conversation, timing=arguments.timing, as_json=arguments.json)
        if text is None:
            Dialogue(conversation, answer, _read, sys.stderr).run()
        else:
            answer(text)
    return 0


def _answer(conversation: Conversation, text: str, *, timing: bool, as_json: bool) -> None:
    """Shows the answer to a message. Raises PerigeeError."""
    answer = Answer()
    pieces = conversation.say(text, answer)
    with contextlib.closing(pieces):
        if as_json:
            for _ in pieces:
                pass
            print(json.dumps(answer.as_json(timing=timing), ensure_ascii=False), flush=True)
            return
        printer = ChatPrinter(sys.stdout, sys.stderr)
        try:
            for piece in pieces:
                printer.show(piece)
        finally:
            printer.close()
    if timing:
        print(answer.timing.line(), file=sys.stderr, flush=True)


def _text(given: str | None) -> str | None:
    """Returns the message; None if a conversation is wanted. Raises ConfigError if there is neither."""
    if given is not None and given != _STDIN:
        return _sendable(given)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    if given is None and sys.stdin is not None and sys.stdin.isatty():
        return None
    text = "" if sys.stdin is None else sys.stdin.read(_MOST_CHARACTERS + 1)
    if len(text) > _MOST_CHARACTERS:
        raise ConfigError(f"standard input has more than {_MOST_CHARACTERS:,} characters; send less")
    if not text.strip():
        raise ConfigError("there is no message: give TEXT, or write it to standard input")
    return _sendable(text)


def _sendable(text: str) -> str:
    """Replaces what is no UTF-8: it arrives as surrogates, which no message can hold."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def _read(prompt: str) -> str:
    """Reads a line at the terminal, with history and editing where Python has them."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - `input` uses it once it is imported
    if sys.stdout.isatty():
        return _sendable(input(prompt))
    # The answers may go to a file.
    sys.stderr.write(prompt)
    sys.stderr.flush()
    return _sendable(input())
