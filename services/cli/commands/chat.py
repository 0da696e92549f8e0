"""`perigee chat "..."`: one question, answered as it is generated."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from services.cli.chat.printer import ChatPrinter
from services.cli.connection.gateway_address import add_address_flag, connected_to_door
from services.common.client import ChatOptions, PerigeeClient, user_message
from services.common.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("text", help="the message to send")
    parser.add_argument(
        "--image", action="append", default=[], metavar="FILE", help="an image to attach; may be repeated"
    )
    parser.add_argument("--no-thinking", action="store_true", help="answer without reasoning first")
    add_address_flag(parser)
    parser.add_argument("--model", default="", help="served model name (default: the only one)")
    parser.add_argument(
        "--max-tokens", type=int, default=1024, metavar="N", help="most tokens to generate (default: 1024)"
    )
    parser.add_argument("--temperature", type=float, metavar="T", help="sampling temperature; 0 is greedy")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="seed of the sampling; the same seed repeats an answer"
    )
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Streams the answer to stdout; token counts and an early end go to stderr."""
    for flag, value, bits in (("--max-tokens", arguments.max_tokens, 32), ("--seed", arguments.seed, 64)):
        if value is not None and not 0 <= value < 1 << bits:
            raise ConfigError(f"{flag} must be from 0 to 2^{bits} - 1")
    # Command-line bytes that are not UTF-8 arrive as surrogates, which no message can hold.
    text = arguments.text.encode(errors="surrogateescape").decode(errors="replace")
    message = user_message(text, [_read(path) for path in arguments.image])
    options = ChatOptions(
        model=arguments.model,
        thinking=False if arguments.no_thinking else None,
        max_tokens=arguments.max_tokens,
        temperature=arguments.temperature,
        seed=arguments.seed,
    )
    with connected_to_door(arguments) as channel:
        printer = ChatPrinter(sys.stdout, sys.stderr)
        try:
            for piece in PerigeeClient(channel).chat([message], options):
                printer.show(piece)
        finally:
            printer.close()
    return 0


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"--image {path}: {error.strerror}") from error
