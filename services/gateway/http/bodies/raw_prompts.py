"""Prompts without a chat template: texts or token ids, one or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

from services.common.errors import InvalidRequest
from services.gateway.pipeline.request import TextPrompt, TokenPrompt

MAX_PROMPTS = 64

RawPrompt: TypeAlias = TextPrompt | TokenPrompt


def text_prompts(given: str | Sequence[str], param: str, *, parse: bool) -> list[tuple[RawPrompt, str]]:
    """Each prompt, and the field it is in. `parse`: special-token strings. Raises InvalidRequest."""
    if isinstance(given, str):
        return [(TextPrompt(given, parse), param)]
    _check_count(given, param)
    return [(TextPrompt(text, parse), f"{param}[{index}]") for index, text in enumerate(given)]


def token_prompts(given: Sequence[int | Sequence[int]], param: str) -> list[tuple[RawPrompt, str]]:
    """Like text_prompts, for token ids: a flat list is one prompt."""
    if given and all(isinstance(each, int) for each in given):
        return [(TokenPrompt(tuple(cast(Sequence[int], given))), param)]
    _check_count(given, param)
    prompts: list[tuple[RawPrompt, str]] = []
    for index, ids in enumerate(given):
        if isinstance(ids, int):
            raise InvalidRequest(f"{param} mixes token ids and lists of them", f"{param}[{index}]")
        prompts.append((TokenPrompt(tuple(ids)), f"{param}[{index}]"))
    return prompts


def any_prompts(
    given: str | Sequence[str | int | Sequence[int]], param: str, *, parse: bool
) -> list[tuple[RawPrompt, str]]:
    """Calls text_prompts or token_prompts, depending on which field the body has."""
    if isinstance(given, str):
        return text_prompts(given, param, parse=parse)
    texts = [each for each in given if isinstance(each, str)]
    if texts and len(texts) < len(given):
        raise InvalidRequest(f"{param} mixes texts and token ids", param)
    if texts:
        return text_prompts(texts, param, parse=parse)
    return token_prompts([each for each in given if not isinstance(each, str)], param)


def _check_count(given: Sequence[object], param: str) -> None:
    if not 1 <= len(given) <= MAX_PROMPTS:
        raise InvalidRequest(f"1 to {MAX_PROMPTS} prompts are taken in a call, {len(given)} given", param)
