"""Each role is scaled by its own signal, made of metrics that exist; rules and dashboards come along."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from prometheus_client import CollectorRegistry

from perigee.v1 import worker_pb2
from services.common.metrics import new_registry
from services.engine.serving.load_metrics import LoadMetrics
from tests.deploy.objects import of_kind, templated


def queries(objects):
    return {
        name.removeprefix("perigee-"): each["spec"]["triggers"][0]["metadata"]["query"]
        for name, each in of_kind(objects, "ScaledObject").items()
    }


def names(query):
    return set(re.findall(r"perigee_[a-z_]+", query))


def test_every_role_has_a_signal_of_its_own(rendered):
    found = {
        role: names(query) - {"perigee_build_info"} for role, query in queries(rendered["monitoring"]).items()
    }
    assert found == {
        "gateway": {"perigee_requests_running", "perigee_requests_waiting"},
        "vision": {"perigee_requests_waiting"},
        "prefill": {"perigee_queued_tokens"},
        "decode": {"perigee_kv_usage_ratio"},
    }


@pytest.mark.parametrize("role", ["vision", "prefill", "decode"])
def test_a_signal_is_a_metric_of_that_roles_workers_counted_once(rendered, role):
    registry = CollectorRegistry()
    LoadMetrics(registry, worker_pb2.LoadReport, {})
    shown = {family.name for family in registry.collect()} | {
        family.name.removesuffix("_info") + "_info" for family in new_registry(role).collect()
    }
    query = queries(rendered["monitoring"])[role]
    assert names(query) <= shown | {"perigee_build_info"}
    assert query.startswith("sum(max by (worker) (")
    assert f'perigee_build_info{{role="{role}"}}' in query


def test_what_scales_has_no_number_of_replicas_that_an_update_would_set_back(rendered):
    for name, each in of_kind(rendered["monitoring"], "ScaledObject").items():
        target = each["spec"]["scaleTargetRef"]
        deployment = of_kind(rendered["monitoring"], target["kind"])[target["name"]]
        assert target["name"] == name
        assert deployment["apiVersion"] == target["apiVersion"]
        assert "replicas" not in deployment["spec"]


def test_groups_are_scaled_as_groups(helm):
    objects = templated(helm, ["h200-pd", "h200-pd-lws", "monitoring"])
    target = of_kind(objects, "ScaledObject")["perigee-decode"]["spec"]["scaleTargetRef"]
    assert target == {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "name": "perigee-decode-groups",
    }
    assert ("LeaderWorkerSet", target["name"]) in objects


def test_where_prometheus_reads_several_suites_each_selector_says_which(helm):
    flags = '--set=monitoring.prometheus.selector=namespace="here"'
    for query in queries(templated(helm, ["cpu-demo", "monitoring"], flags)).values():
        assert query.count("{") == query.count('namespace="here"}')


def test_prometheus_gets_the_rules_and_grafana_the_dashboards_as_they_are(rendered, repository):
    objects = rendered["monitoring"]
    rules = yaml.safe_load((repository / "monitoring" / "rules.yml").read_text())["groups"]
    given = of_kind(objects, "PrometheusRule")["perigee"]["spec"]["groups"]
    assert {group["name"]: group["rules"] for group in given} == {
        group["name"]: group["rules"] for group in rules
    }
    dashboards = {
        path.name: json.loads(path.read_text())
        for path in (repository / "monitoring" / "dashboards").glob("*.json")
    }
    maps = of_kind(objects, "ConfigMap").values()
    assert {name: json.loads(text) for each in maps for name, text in each["data"].items()} == dashboards
    assert all(each["metadata"]["labels"]["grafana_dashboard"] == "1" for each in maps)
