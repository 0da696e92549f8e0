"""The parts of a Grafana dashboard, and its JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_COLUMNS = 24
_HEIGHT = 8
# Its variable: which Prometheus is asked is chosen on the dashboard.
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Query:
    """One expression of a panel. `legend`: the name of its series, with `{{label}}` in it."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One picture. `unit` and `kind`: Grafana's names of its unit and its type. `stacked`: the series are
    drawn on top of each other. `width`: of 24 columns.
    """

    title: str
    about: str
    queries: Sequence[Query]
    unit: str = "short"
    kind: str = "timeseries"
    stacked: bool = False
    width: int = 8


@dataclass(frozen=True)
class Row:
    """Panels under a common heading, from left to right, in as many lines as they take."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Dashboard:
    """`uid`: its name in URLs. `choices`: by name of a variable, the query of its values."""

    uid: str
    title: str
    about: str
    rows: Sequence[Row]
    choices: Sequence[tuple[str, str]] = ()

    def json(self) -> str:
        """Returns the file that Grafana imports."""
        content = {
            "uid": self.uid,
            "title": self.title,
            "description": self.about,
            "tags": ["perigee"],
            "schemaVersion": 39,
            "version": 1,
            "editable": True,
            "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"},
            "timezone": "browser",
            "annotations": {"list": []},
            "links": [
                {
                    "type": "dashboards",
                    "title": "Perigee",
                    "tags": ["perigee"],
                    "asDropdown": True,
                    "keepTime": True,
                }
            ],
            "templating": {"list": [_data_source(), *(_choice(*choice) for choice in self.choices)]},
            "panels": list(_placed(self.rows)),
        }
        return json.dumps(content, indent=1) + "\n"


def quantiles(metric: str, by: str = "le", matcher: str = "") -> tuple[Query, ...]:
    """Returns the median, the 90th and the 99th percentile of a histogram. `by`: the labels that stay."""
    kept = [f"{{{{{label.strip()}}}}}" for label in by.split(",") if label.strip() != "le"]
    return tuple(
        Query(
            f"histogram_quantile({part}, sum by ({by}) (rate({metric}_bucket{matcher}[$__rate_interval])))",
            " ".join([*kept, name]),
        )
        for part, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))
    )


def _data_source() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "hide": 0,
    }


def _choice(name: str, values: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": values, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": "All", "value": "$__all"},
    }


def _placed(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Yields the headings and panels with their places, as Grafana counts them."""
    number, y = 0, 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": y, "w": _COLUMNS, "h": 1},
        }
        x, y = 0, y + 1
        for panel in row.panels:
            if x + panel.width > _COLUMNS:
                x, y = 0, y + _HEIGHT
            number += 1
            yield _panel(panel, number, {"x": x, "y": y, "w": panel.width, "h": _HEIGHT})
            x += panel.width
        y += _HEIGHT


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    shown: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.kind == "timeseries":
        mode = "normal" if panel.stacked else "none"
        shown["custom"] = {"fillOpacity": 30 if panel.stacked else 0, "stacking": {"mode": mode}}
        options: dict[str, Any] = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    else:
        options = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "gridPos": place,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": shown, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend,
            }
            for index, query in enumerate(panel.queries)
        ],
    }
