"""How the engine reads and computes model families: one entry per `model_type`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.common.errors import CheckpointError
from services.common.model_types import ModelTypes, read_config
from services.engine.model.config.config_section import ConfigSection
from services.engine.model.config.kimi_k25 import KIMI_K25, TEXT_SECTION, read_kimi_k25
from services.engine.model.config.model_config import ModelConfig
from services.engine.model.config.text_config import TextConfig
from services.engine.model.tensor_names import Shape, text_tensors

if TYPE_CHECKING:
    from services.engine.model.text_layer import TextLayer


def common_text_layer() -> type[TextLayer]:
    """Imports the layer class of all families that do not define their own."""
    from services.engine.model.text_layer import TextLayer

    return TextLayer


@dataclass(frozen=True)
class Architecture:
    """How checkpoints of one `model_type` are read and computed.

    `read_config` reads the top level of config.json and adds problems to its section. `text_section` is the
    key of the text model's configuration, or empty if it is not nested. `text_prefix` and `vision_prefixes`
    are prefixes of tensor names in the shards; a model without `vision_prefixes` has no vision part.
    `text_tensors` returns the names below the prefix with their shapes. `text_layer` imports the class that
    computes a layer of the text model, because the class needs torch; the compiled decode step and the GPU
    kernels support TextLayer only.
    """

    read_config: Callable[[ConfigSection], ModelConfig]
    text_section: str = ""
    text_prefix: str = ""
    vision_prefixes: tuple[str, ...] = ()
    text_tensors: Callable[[TextConfig], dict[str, Shape]] = text_tensors
    text_layer: Callable[[], type[TextLayer]] = common_text_layer


ARCHITECTURES = ModelTypes(
    {
        KIMI_K25: Architecture(
            read_kimi_k25, TEXT_SECTION, "language_model.", ("mm_projector.", "vision_tower.")
        )
    },
    "perigee.architectures",
    Architecture,
)


def architecture_of(config: ModelConfig) -> Architecture:
    """The architecture with which the configuration was read."""
    return ARCHITECTURES.find(config.model_type, "config.json")


def load_config(directory: Path) -> ModelConfig:
    """Reads a checkpoint's config.json. CheckpointError names an unknown `model_type`, or otherwise every
    missing or unsupported key.
    """
    path = Path(directory) / "config.json"
    return parse_config(read_config(path), str(path))


def parse_config(values: dict[str, Any], source: str = "config.json") -> ModelConfig:
    """Reads the parsed file; errors name `source`."""
    problems: list[str] = []
    architecture = ARCHITECTURES.find_for(values, source)
    config = architecture.read_config(ConfigSection(values, "", problems))
    if problems:
        raise CheckpointError(f"{source}: " + "; ".join(problems))
    return config
