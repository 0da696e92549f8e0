"""The dashboards are what their descriptions give."""

from __future__ import annotations

import json

import pytest
import yaml

from monitoring.dashboards import __main__ as command
from monitoring.dashboards.files import FILES
from monitoring.dashboards.grafana import Dashboard, Panel, Query, Row
from tests.monitoring.expressions import dashboards, panels
from tests.support.promtool import promtool


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_what_its_description_gives(path):
    assert path.read_text() == FILES[path].json(), "run `make dashboards`"


def test_no_file_is_without_a_description():
    assert set(dashboards()) == {path.name for path in FILES}


def test_a_changed_file_is_named_and_written_again(tmp_path, monkeypatch, capsys):
    dashboard = next(iter(FILES.values()))
    path = tmp_path / "overview.json"
    path.write_text(dashboard.json().replace("Perigee", "Perige"))
    monkeypatch.setattr(command, "FILES", {path: dashboard})
    monkeypatch.setattr("sys.argv", ["dashboards", "--check"])
    assert command.main() == 1
    assert "overview.json differ" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["dashboards"])
    assert command.main() == 0
    assert path.read_text() == dashboard.json()


@pytest.mark.parametrize("name", ["overview.json", "workers.json"])
def test_panels_have_numbers_of_their_own_and_do_not_overlap(name):
    panels = dashboards()[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert all(0 <= x < 24 for x, _ in cells), panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


def test_each_panel_asks_the_prometheus_that_the_dashboard_has_chosen():
    for dashboard in dashboards().values():
        variables = {variable["name"] for variable in dashboard["templating"]["list"]}
        assert "datasource" in variables
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                assert target["datasource"]["uid"] == "${datasource}"
                assert ("$worker" in target["expr"]) <= ("worker" in variables)


def test_panels_that_do_not_fit_into_a_line_begin_the_next_one():
    panels = [Panel(str(number), "", [Query("up", "")], width=10) for number in range(3)]
    content = json.loads(Dashboard("u", "t", "a", [Row("r", panels)]).json())
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in content["panels"]]
    assert places == [(0, 0), (0, 1), (10, 1), (0, 9)]


def test_prometheus_can_read_every_expression(tmp_path):
    """As rules, for promtool reads no dashboards."""
    rules = [{"record": f"panel:{number}", "expr": expr} for number, (_, expr) in enumerate(panels())]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(file))
