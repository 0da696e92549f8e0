"""Converts a decode worker's responses to and from lists of deltas."""

from __future__ import annotations

from collections.abc import Sequence

from perigee.v1 import decode_pb2


def deltas_of(response: decode_pb2.SessionResponse) -> list[decode_pb2.SequenceDelta]:
    """All tokens of a response, one delta for each."""
    columns = response.tokens
    tokens = zip(columns.handles, columns.choices, columns.token_ids, strict=True)
    return [
        *response.deltas,
        *(decode_pb2.SequenceDelta(handle=h, choice=c, token_ids=[token]) for h, c, token in tokens),
    ]


def response_of(deltas: Sequence[decode_pb2.SequenceDelta]) -> decode_pb2.SessionResponse:
    """A response as a worker makes it: deltas with one token and nothing else become columns."""
    response = decode_pb2.SessionResponse()
    for delta in deltas:
        if {field.name for field, _ in delta.ListFields()} <= _TOKEN and len(delta.token_ids) == 1:
            response.tokens.handles.append(delta.handle)
            response.tokens.choices.append(delta.choice)
            response.tokens.token_ids.extend(delta.token_ids)
        else:
            response.deltas.append(delta)
    return response


_TOKEN = {"handle", "choice", "token_ids"}
