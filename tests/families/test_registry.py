"""The two tables of model families, and who else knows a family."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.errors import CheckpointError
from services.engine.model.architectures import ARCHITECTURES, load_config
from services.families.kimi.special import NAMES
from services.families.registry import FAMILIES, family_in, family_of_tokenizer

SERVICES = Path(__file__).resolve().parents[2] / "services"
TABLES = ("families/registry.py", "engine/model/architectures.py", "common/model_types.py")
OWN = ("families/kimi/", "engine/model/config/kimi_k25.py")
MARKER = re.compile(r"<\|\w+\|>|" + "|".join(map(re.escape, NAMES.values())))


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every string in a file, docstrings and parts of f-strings included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def elsewhere(*but: str) -> Iterator[Path]:
    for path in sorted(SERVICES.rglob("*.py")):
        if not path.relative_to(SERVICES).as_posix().startswith((*OWN, *but)):
            yield path


def test_both_tables_know_the_same_model_types():
    assert FAMILIES.names == ARCHITECTURES.names
    assert "kimi_k25" in FAMILIES.names


def test_nobody_but_a_family_names_a_marker():
    found = [
        f"{path.relative_to(SERVICES)}:{line}: {marker[0]}"
        for path in elsewhere()
        for line, text in strings(path)
        if (marker := MARKER.search(text))
    ]
    assert not found
    assert any(MARKER.search(text) for _, text in strings(SERVICES / "families/kimi/special.py"))


def test_nobody_but_the_tables_reads_or_names_a_model_type():
    names = {"model_type", *FAMILIES.names}
    found = [
        f"{path.relative_to(SERVICES)}:{line}: {text}"
        for path in elsewhere(*TABLES)
        for line, text in strings(path)
        if text in names
    ]
    assert not found


def test_an_unknown_model_type_is_refused_in_a_sentence_that_says_what_is_served(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "dodo"}')
    for read in (family_in, family_of_tokenizer):
        with pytest.raises(CheckpointError, match=r"config\.json: model_type is 'dodo'; served: kimi_k25$"):
            read(tmp_path)


@pytest.mark.parametrize("read", [family_in, family_of_tokenizer, load_config])
def test_kimi_k3_is_refused_by_name_everywhere(tmp_path, read):
    config = {
        "model_type": "kimi_k3",
        "architectures": ["KimiK3ForConditionalGeneration"],
        "text_config": {"model_type": "kimi_linear", "num_hidden_layers": 93},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path)
    sentence = "model_type is 'kimi_k3' (KimiK3ForConditionalGeneration); served: kimi_k25"
    assert caught.value.message == f"{tmp_path}/config.json: {sentence}"


def test_a_configuration_without_a_model_type_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"config\.json: model_type is missing; served: kimi_k25$"):
        family_in(tmp_path)


def test_tokenizer_files_without_a_configuration_are_those_of_kimi(tmp_path):
    assert family_of_tokenizer(tmp_path) is FAMILIES.find("kimi_k25", "here")
