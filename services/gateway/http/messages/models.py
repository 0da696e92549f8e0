"""The list of models in the form of Messages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from services.gateway.http.messages.shapes.message import MessagesModel, MessagesModels


def model_list(names: Sequence[str], created: int) -> MessagesModels:
    """All served names, primary first. `created`: Unix time, seconds."""
    return MessagesModels([model_entry(name, created) for name in names], names[0], names[-1], has_more=False)


def model_entry(name: str, created: int) -> MessagesModel:
    """One served name."""
    return MessagesModel(name, name, datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
