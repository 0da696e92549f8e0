"""Rules and dashboards against the page of a running suite."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator

import openai
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.monitoring.expressions import MONITORING, expressions, panels, recorded
from tests.support.promql import Page, unknown
from tests.support.promtool import promtool, running_prometheus
from tests.support.stack import Stack, free_port
from tests.support.waiting import scaled, wait_until

MINUTES = 30
# Panels that are empty until something of the kind has happened.
EVENTS = {
    "Alerts",
    "Answers that lack something",
    "Errors/s by reason",
    "Pages that gateways could not read, per minute",
    "Rejected and failed requests/s by reason",
    "Tokens/s of the busiest API keys",
}
TARGET = 'instance="gateway:30000",job="perigee"'


def scraped(suite: Stack) -> str:
    """The gateway's page."""
    with urllib.request.urlopen(f"{suite.base_url}/metrics", timeout=10) as page:
        return page.read().decode()


def talk(client: openai.OpenAI, requests: int) -> None:
    """A few short answers, each to a prompt long enough for prefill."""
    for number in range(requests):
        text = f"Question {number}: what is the weather like in this town today? " * 4
        client.completions.create(model="kimi-nano", prompt=text, max_tokens=8)


def minutes(before: str, after: str) -> list[dict[str, str]]:
    """Series of half an hour from `after` on. Each minute counters grow as between the pages."""
    earlier = {series: value for series, value, _ in series_of(before)}
    series = [
        {
            "series": name,
            "values": f"{value:.6f}+{value - earlier.get(name, 0.0) if counts else 0:.6f}x{MINUTES}",
        }
        for name, value, counts in series_of(after)
    ]
    return [*series, {"series": f"up{{{TARGET}}}", "values": f"1x{MINUTES}"}]


def series_of(text: str) -> Iterator[tuple[str, float, bool]]:
    """Yields name, value and whether it is a counter, of each sample."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = "".join(f',{label}="{value}"' for label, value in sample.labels.items())
            yield f"{sample.name}{{{TARGET}{labels}}}", sample.value, family.type != "gauge"


def test_a_running_suite_shows_what_rules_and_dashboards_name(suite, client):
    talk(client, 1)
    page = Page(scraped(suite))
    for name in ("up", "ALERTS", *recorded()):
        page.add(name)
    # These have no series, or no worker's, until something has failed.
    for name in ("ALERTS", "perigee_request_errors_total"):
        page.samples[name].clear()
    lacking = {
        each.where: names for each in expressions() if (names := list(unknown(each.expr, page, exact=False)))
    }
    assert not lacking
    with_samples = {name for name, samples in page.samples.items() if samples}
    assert {"perigee_kv_transfer_exposed_seconds_total", "perigee_step_seconds_bucket"} <= with_samples


@pytest.mark.parametrize("requests", [0, 2], ids=["idle", "two requests a minute"])
def test_nothing_fires_in_thirty_quiet_minutes(suite, client, tmp_path, requests):
    talk(client, 1)
    before = scraped(suite)
    talk(client, requests)
    silent = {
        "expr": f'max_over_time(ALERTS{{alertstate="firing"}}[{MINUTES}m])',
        "eval_time": f"{MINUTES}m",
        "exp_samples": [],
    }
    test = {
        "interval": "1m",
        "input_series": minutes(before, scraped(suite)),
        "promql_expr_test": [silent],
    }
    rules = {"rule_files": [str(MONITORING / "rules.yml")], "evaluation_interval": "1m", "tests": [test]}
    file = tmp_path / "quiet.yml"
    file.write_text(yaml.safe_dump(rules))
    promtool("test", "rules", str(file))


def test_a_prometheus_that_reads_the_suite_can_evaluate_every_rule_and_fill_every_panel(
    suite, client, tmp_path
):
    configuration = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration["rule_files"] = [str(MONITORING / "rules.yml")]
    address = suite.base_url.removeprefix("http://")
    configuration["scrape_configs"] = [
        {"job_name": "perigee", "static_configs": [{"targets": [address]}]},
    ]
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration))
    with running_prometheus(file, free_port()) as prometheus:

        def unhealthy() -> dict[str, str]:
            groups = prometheus.get("rules")["groups"]
            rules = [rule for group in groups for rule in group["rules"]]
            return {rule["name"]: rule.get("lastError", "") for rule in rules if rule["health"] != "ok"}

        def empty() -> set[str]:
            return {
                title for title, expr in panels() if not prometheus.get("query", query=expr)["result"]
            } - EVENTS

        def complete() -> bool:
            talk(client, 1)
            return not unhealthy() and not empty()

        wait_until(complete, min(scaled(60.0), 240.0), every_s=1.0, detail=lambda: f"{unhealthy()} {empty()}")
