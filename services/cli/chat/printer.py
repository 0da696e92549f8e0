"""Prints an answer, with reasoning set apart from content."""

from __future__ import annotations

from typing import TextIO

from services.cli.terminal import DIM, PLAIN, harmless
from services.common.client import Content, Finished, Piece, Reasoning, ToolCallPart, Used

_QUOTE = "> "


class ChatPrinter:
    """Prints pieces as they arrive: reasoning is dim on a terminal, and prefixed with "> " elsewhere."""

    def __init__(self, out: TextIO, notes: TextIO) -> None:
        self._out = out
        self._notes = notes
        self._terminal = out.isatty()
        self._reasoning = False
        self._at_line_start = True

    def show(self, piece: Piece) -> None:
        """Prints one piece and flushes it."""
        match piece:
            case Reasoning(text):
                self._enter(reasoning=True)
                self._write(text)
            case Content(text):
                self._enter(reasoning=False)
                self._write(text)
            case ToolCallPart(_, call_id, name, arguments):
                self._enter(reasoning=False)
                self._write((f"\n[{name} {call_id}] " if name else "") + arguments)
            case Finished(reason):
                if reason != "stop":
                    self._note(f"[ended: {reason}]")
            case Used():
                self._note(
                    f"[{piece.prompt_tokens} prompt tokens, {piece.cached_tokens} of them cached; "
                    f"{piece.completion_tokens} generated, {piece.reasoning_tokens} of them reasoning]"
                )

    def close(self) -> None:
        """Resets the colour and ends the line."""
        self._end_reasoning()
        self._end_line()
        self._out.flush()

    def _enter(self, *, reasoning: bool) -> None:
        if reasoning and not self._reasoning:
            self._out.write(DIM if self._terminal else "")
        elif self._reasoning and not reasoning:
            self._end_reasoning()
            self._end_line()
            self._out.write("\n")
        self._reasoning = reasoning

    def _write(self, text: str) -> None:
        shown = harmless(text)
        if self._reasoning and not self._terminal:
            for line in shown.splitlines(keepends=True):
                self._out.write((_QUOTE if self._at_line_start else "") + line)
                self._at_line_start = line.endswith("\n")
        else:
            self._out.write(shown)
            self._at_line_start = shown.endswith("\n") if shown else self._at_line_start
        self._out.flush()

    def _end_reasoning(self) -> None:
        if self._reasoning and self._terminal:
            self._out.write(PLAIN)
        self._reasoning = False

    def _end_line(self) -> None:
        if not self._at_line_start:
            self._out.write("\n")
            self._at_line_start = True

    def _note(self, text: str) -> None:
        self.close()
        self._notes.write(text + "\n")
        self._notes.flush()
