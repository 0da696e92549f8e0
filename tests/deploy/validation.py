"""Says what a cluster would refuse of an object: by its kind's schema, strictly, and by webhooks' rules."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from tests.deploy.objects import Object
from tests.deploy.rules import broken_rules

KUBERNETES = "1.37"
_SCHEMAS = Path(__file__).parent / "schemas"
_METADATA = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}


def problems(each: Object) -> list[str]:
    """One sentence for each; none for an object that a cluster takes."""
    return [*_of_schema(each)] or broken_rules(each)


def _of_schema(each: Object) -> Iterator[str]:
    # Which no schema requires.
    if not each.get("metadata", {}).get("name"):
        yield "metadata.name is missing"
    schema = _custom(each["kind"])
    if schema is None:
        yield from _core(each)
        return
    for error in jsonschema.Draft202012Validator(schema).iter_errors(each):
        yield f"{error.json_path}: {error.message}"
    if each["kind"] == "LeaderWorkerSet":
        template = each.get("spec", {}).get("leaderWorkerTemplate", {}).get("workerTemplate")
        if isinstance(template, dict):
            yield from _core({"apiVersion": "v1", "kind": "PodTemplate", "template": template})


def _core(each: Object) -> Iterator[str]:
    try:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{error.json_path}: {error.message}"


@cache
def _custom(kind: str) -> dict[str, Any] | None:
    path = _SCHEMAS / f"{kind.lower()}.yaml"
    if not path.exists():
        return None
    spec = _strict(yaml.safe_load(path.read_text()))
    return {
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"const": kind},
            "metadata": _METADATA,
            "spec": spec,
        },
    }


def _strict(schema: Any) -> Any:
    if schema == "int-or-string":
        return {"type": ["integer", "string"]}
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _strict(each) for key, each in schema.items()}
    return {"additionalProperties": False, **found} if "properties" in schema else found
