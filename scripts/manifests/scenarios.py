"""Which values files make a base, and which a component."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

BASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "cpu-demo": ("cpu-demo",),
        "h200-aggregated": ("h200-aggregated",),
        "h200-pd": ("h200-pd",),
        "h200-pd-lws": ("h200-pd", "h200-pd-lws"),
    }
)
"""A base is what the chart gives for these values files, in this order."""

COMPONENTS = ("monitoring", "secure")
"""A component has the objects that a values file adds, and, by hand, patches for those that it changes."""

ADDED_TO = "cpu-demo"
"""The base to which a component's objects are computed: the same are added to every base with all roles."""
