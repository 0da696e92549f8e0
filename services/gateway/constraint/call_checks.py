"""Whether a finished call is valid, where no grammar could make sure of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import jsonschema_rs

from services.gateway.constraint.keywords import path_text


class CallChecks:
    """Validators by function name, of those functions alone whose schema says more than a grammar can."""

    def __init__(self, validators: Mapping[str, Any]) -> None:
        self._validators = validators

    def __bool__(self) -> bool:
        """Whether any call has to be checked: no, where the grammars say all that the schemas do."""
        return bool(self._validators)

    def complaint(self, name: str, arguments: str) -> str:
        """Returns the fault of the arguments (JSON text); empty if there is none."""
        validator = self._validators.get(name)
        if validator is None:
            return ""
        try:
            error = next(validator.iter_errors(json.loads(arguments)), None)
        except RecursionError:
            return "the arguments are nested too deeply"
        except ValueError as failure:
            return f"the arguments are no JSON: {failure}"
        if error is None:
            return ""
        assert isinstance(error, jsonschema_rs.ValidationError)
        return f"arguments{path_text(error.instance_path)}: {error.message[:300]}"
