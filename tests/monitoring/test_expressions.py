"""Rules and dashboards name only what a gateway's page has."""

from __future__ import annotations

import pytest

from tests.monitoring.expressions import expressions, recorded
from tests.monitoring.pages import whole_page
from tests.support.promql import TARGET_LABELS, Page, kept, selectors, unknown


@pytest.fixture(scope="module")
def page():
    page = Page(whole_page())
    page.add("up")
    page.add("ALERTS", alertname="", alertstate="firing", severity="")
    for name in recorded():
        page.add(name)
    return page


def test_each_name_label_and_value_of_an_expression_is_on_the_page(page):
    found = expressions()
    assert len(found) > 90
    lacking = {each.where: names for each in found if (names := list(unknown(each.expr, page, exact=True)))}
    assert not lacking


def test_legends_and_summaries_show_labels_that_the_result_has(page):
    wrong = {}
    for each in expressions():
        labels = kept(each.expr)
        if labels is None:
            names = [selector.name for selector in selectors(each.expr)]
            labels = TARGET_LABELS.union(*map(page.labels, names))
        if not each.shown <= labels:
            wrong[each.where] = each.shown - labels
    assert not wrong


@pytest.mark.parametrize(
    ("expr", "lacking"),
    [
        ("sum(rate(perigee_request_total[5m]))", ["perigee_request_total"]),
        ("perigee_kv_usage_ratio and perigee_kv_page", ["perigee_kv_page"]),
        ("1 - rate(perigee_step_seconds[5m]) offset 6h", ["perigee_step_seconds"]),
        ('perigee_workers{roles="decode"}', ["perigee_workers{roles}"]),
        ('perigee_workers{state=~"serving|pausing"}', ['perigee_workers{state="pausing"}']),
        ('perigee_requests_total{outcome!~"ok|errors"}', ['perigee_requests_total{outcome="errors"}']),
        (
            'perigee_time_to_first_token_seconds_bucket{le="5"}',
            ['perigee_time_to_first_token_seconds_bucket{le="5"}'],
        ),
        ('perigee_workers{worker=""}', ["perigee_workers{worker}"]),
        ("max by (workers) (perigee_draining)", ["grouping by workers"]),
        ("perigee_draining and on (host) perigee_draining", ["grouping by host"]),
    ],
)
def test_what_a_page_lacks_is_found(page, expr, lacking):
    assert list(unknown(expr, page, exact=True)) == lacking


def test_a_page_without_samples_of_a_family_knows_its_name_only():
    page = Page("# TYPE perigee_failovers_total counter\n")
    assert not list(unknown('rate(perigee_failovers_total{any="x"}[5m])', page, exact=False))
    assert list(unknown("perigee_failovers", page, exact=False)) == ["perigee_failovers"]
