"""Which tokens each piece of a message is made of."""

from __future__ import annotations

from typing import NamedTuple

from services.families.output import OutputParser, Piece, TextKind


class AlignedPiece(NamedTuple):
    """A piece of one kind, or empty, and how many tokens it takes: the first of those not taken yet."""

    piece: Piece
    num_tokens: int


class _Place(NamedTuple):
    """The place of a token in the text of the message, in characters.

    `end`: None where the token ends inside a character or stands outside of all text.
    """

    start: int
    end: int | None


class Alignment:
    """Feeds a parser in the place of its caller, token by token, and counts the tokens of each piece.

    A piece of text ends where a token ends, so that its tokens spell exactly this text; only a stop string
    may cut a token. A piece of a call has all tokens since the last piece; of several that one token gives,
    the last has them. Tokens without text are pieces of their own; those left at the end are in no piece.
    """

    def __init__(self, parser: OutputParser) -> None:
        self._parser = parser
        self._waiting: list[_Place] = []
        self._text = ""
        self._given = 0
        self._pieces: list[AlignedPiece] = []

    def feed(self, token_id: int) -> bool:
        """Does what the parser's method does."""
        before, start = self._parser.text_kind, self._parser.num_characters
        stopped = self._parser.feed(token_id)
        piece, kind = self._parser.take(), self._parser.text_kind
        if before is not kind and before is not None:
            self._close(before, piece)
            start = self._given
        open_ended = kind is None or self._parser.inside
        self._waiting.append(_Place(start, None if open_ended else self._parser.num_characters))
        if kind is not None:
            self._text += _text(piece, kind)
            self._give_certain(kind)
            if stopped:
                self._close(kind, Piece("", "", ()))
        self._give_calls(piece)
        return stopped

    def end(self, *, by_model: bool) -> bool:
        """Does what the parser's method does."""
        kind = self._parser.text_kind
        stopped = self._parser.end(by_model=by_model)
        piece = self._parser.take()
        if kind is not None:
            self._close(kind, piece)
        self._give_calls(piece)
        return stopped

    def take(self) -> list[AlignedPiece]:
        """Returns the pieces since the last call."""
        pieces, self._pieces = self._pieces, []
        return pieces

    def _give_certain(self, kind: TextKind) -> None:
        certain, count, end = self._given + len(self._text), 0, self._given
        for index, place in enumerate(self._waiting):
            if place.end is None:
                continue
            if place.end > certain:
                break
            count, end = index + 1, place.end
        self._give(kind, end - self._given, count)

    def _close(self, kind: TextKind, piece: Piece) -> None:
        """Gives all text there is, at its end or before a stop string, with the tokens that begin in it."""
        self._text += _text(piece, kind)
        certain = self._given + len(self._text)
        self._give(kind, len(self._text), sum(place.start < certain for place in self._waiting))

    def _give(self, kind: TextKind, length: int, count: int) -> None:
        if not count:
            return
        text, self._text = self._text[:length], self._text[length:]
        self._given += length
        self._add(Piece(text, "", ()) if kind is TextKind.REASONING else Piece("", text, ()), count)

    def _give_calls(self, piece: Piece) -> None:
        for call in piece.calls:
            self._add(Piece("", "", (call,)), len(self._waiting) if call is piece.calls[-1] else 0)

    def _add(self, piece: Piece, count: int) -> None:
        self._pieces.append(AlignedPiece(piece, count))
        del self._waiting[:count]


def _text(piece: Piece, kind: TextKind) -> str:
    return piece.reasoning if kind is TextKind.REASONING else piece.content
