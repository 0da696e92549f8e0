"""An example body of each route that takes one, without the model's name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_SUM = "Tom has 5 apples and buys 3 more. How many apples does he have?"

CHAT: Mapping[str, Any] = MappingProxyType(
    {
        "messages": [{"role": "user", "content": "Which one is bigger, 9.11 or 9.9?"}],
        "temperature": 0,
        "max_tokens": 256,
    }
)
MESSAGE: Mapping[str, Any] = MappingProxyType(
    {"messages": [{"role": "user", "content": "Which one is bigger, 9.11 or 9.9?"}], "max_tokens": 256}
)
COUNT: Mapping[str, Any] = MappingProxyType({"messages": [{"role": "user", "content": "Hello"}]})
COMPLETION: Mapping[str, Any] = MappingProxyType({"prompt": _SUM, "temperature": 0, "max_tokens": 32})
GENERATE: Mapping[str, Any] = MappingProxyType(
    {"text": _SUM, "sampling_params": {"temperature": 0, "max_new_tokens": 32}}
)
TOKENIZE: Mapping[str, Any] = MappingProxyType({"prompt": _SUM})
DETOKENIZE: Mapping[str, Any] = MappingProxyType({"tokens": [72, 101, 108, 108, 111]})
