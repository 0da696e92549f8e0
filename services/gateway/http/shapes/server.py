"""Schemas of the routes that describe models, workers and health."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, UnsetType

from services.gateway.http.shapes.base import AnswerShape


class ModelAnswer(AnswerShape):
    """A served name."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    max_model_len: int | None


class ModelsAnswer(AnswerShape):
    """All served names. `models`: always empty; Codex looks for this list, and does without entries."""

    object: Literal["list"]
    data: list[ModelAnswer]
    models: list[dict[str, Any]]


class ModelInfo(AnswerShape):
    """The served model. `model_path`: the directory, as configured; `model_profile`: which model of its
    family it is served as.
    """

    model_path: str
    tokenizer_path: str
    served_model_name: str
    model_profile: str
    is_generation: bool
    has_image_understanding: bool
    max_model_len: int | None
    vocab_size: int


class TokenizerInfo(AnswerShape):
    """`eos_token`: the text of the token that ends a turn; `bos_token`: null, because none is added.
    `model_max_length`: null where it is not known.
    """

    tokenizer_class: str
    eos_token: str
    bos_token: None
    model_max_length: int | None


class WorkerEntry(AnswerShape):
    """A worker, and its load if it is reachable."""

    role: str
    address: str
    state: str
    running: int | UnsetType = UNSET
    waiting: int | UnsetType = UNSET
    free_pages: int | UnsetType = UNSET


class ServerInfo(ModelInfo):
    """The served model and its workers."""

    version: str
    internal_states: list[dict[str, Any]]
    workers: list[WorkerEntry]


class HealthAnswer(AnswerShape):
    """`status`: ok while text can be served; `text`, `images` (and videos, with their extra): what can be
    served now; `missing`: configured roles that nobody serves; `workers`: address to state.
    """

    status: Literal["ok", "unavailable", "stopping"]
    text: bool
    images: bool
    missing: list[str]
    tokenizer_only: bool
    workers: dict[str, str]
