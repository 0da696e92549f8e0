"""Each alert fires when it should, does not before, and is explained."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.monitoring.expressions import MONITORING, alerts
from tests.support.promtool import promtool

NAMED = [(alert["alert"], alert["labels"]["severity"]) for alert in alerts()]


@pytest.fixture(scope="module")
def cases():
    """By alert and severity: how many samples each case expects. No severity: all of them."""
    found: dict[tuple[str, str], list[int]] = {}
    for test in yaml.safe_load((MONITORING / "rules_test.yml").read_text())["tests"]:
        for case in test["promql_expr_test"]:
            [name] = re.findall(r'alertname="(\w+)"', case["expr"])
            severities = re.findall(r'severity="(\w+)"', case["expr"])
            for alert in [named for named in NAMED if named[0] == name]:
                if not severities or alert[1] in severities:
                    found.setdefault(alert, []).append(len(case["exp_samples"]))
    return found


@pytest.mark.parametrize("alert", NAMED, ids=" ".join)
def test_an_alert_has_a_case_that_fires_and_one_that_does_not(cases, alert):
    assert min(cases[alert]) == 0
    assert max(cases[alert]) == 1


@pytest.mark.parametrize(
    "alert", alerts(), ids=lambda alert: f"{alert['alert']} {alert['labels']['severity']}"
)
def test_an_alert_is_explained_where_it_says(repository, alert):
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    assert page == "docs/operations.md"
    assert anchor == alert["alert"].lower()
    [paragraph] = re.findall(
        rf"^### {alert['alert']}\n\n(.+?)\n\n", (repository / page).read_text(), re.M | re.S
    )
    assert len(paragraph.split()) > 20


def test_no_alert_is_explained_that_does_not_exist(repository):
    explained = re.findall(r"^### (Perigee\w+)$", (repository / "docs" / "operations.md").read_text(), re.M)
    assert sorted(explained) == sorted({name for name, _ in NAMED})


def test_prometheus_takes_the_rules_and_the_configuration():
    assert f"{len(NAMED) + 8} rules found" in promtool("check", "rules", str(MONITORING / "rules.yml"))
    promtool("check", "config", str(MONITORING / "prometheus.yml"))


def test_each_case_of_the_rules_comes_out_as_it_says():
    promtool("test", "rules", str(MONITORING / "rules_test.yml"))
