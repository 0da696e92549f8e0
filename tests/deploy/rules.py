"""What webhooks and validations of the API check beside the schema, as far as it concerns the chart."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from tests.deploy.objects import Object


def broken_rules(each: Object) -> list[str]:
    """One sentence for each rule that the object breaks."""
    rules = _RULES.get(each["kind"])
    return list(rules(each["spec"])) if rules else []


def _deployment(spec: Object) -> Iterator[str]:
    labels = spec["template"]["metadata"]["labels"]
    if not spec["selector"]["matchLabels"].items() <= labels.items():
        yield "the selector does not select the pods"
    yield from _no_rollout(spec["strategy"]["rollingUpdate"])


def _leader_worker_set(spec: Object) -> Iterator[str]:
    yield from _no_rollout(spec["rolloutStrategy"]["rollingUpdateConfiguration"])


def _no_rollout(update: Object) -> Iterator[str]:
    if {str(update["maxSurge"]), str(update["maxUnavailable"])} <= {"0", "0%"}:
        yield "maxSurge and maxUnavailable are both 0"


def _disruption_budget(spec: Object) -> Iterator[str]:
    if ("minAvailable" in spec) == ("maxUnavailable" in spec):
        yield "a budget has either minAvailable or maxUnavailable"


def _volume_claim(spec: Object) -> Iterator[str]:
    if not spec.get("accessModes"):
        yield "accessModes is empty"
    if "storage" not in spec.get("resources", {}).get("requests", {}):
        yield "the claim asks for no storage"


def _scaled_object(spec: Object) -> Iterator[str]:
    if spec["minReplicaCount"] > spec["maxReplicaCount"]:
        yield "minReplicaCount is above maxReplicaCount"
    for trigger in spec["triggers"]:
        if trigger["type"] == "prometheus":
            missing = {"serverAddress", "query", "threshold"} - trigger["metadata"].keys()
            if missing:
                yield f"the trigger lacks {', '.join(sorted(missing))}"
            elif not re.fullmatch(r"[0-9]+(\.[0-9]+)?", trigger["metadata"]["threshold"]):
                yield "threshold is no number"
        if "fallback" in spec and trigger["metricType"] != "AverageValue":
            yield "fallback works with AverageValue only"


def _service_monitor(spec: Object) -> Iterator[str]:
    for endpoint in spec["endpoints"]:
        if _seconds(endpoint["scrapeTimeout"]) > _seconds(endpoint["interval"]):
            yield "scrapeTimeout is longer than interval"


def _prometheus_rule(spec: Object) -> Iterator[str]:
    names = [group["name"] for group in spec["groups"]]
    if len(set(names)) != len(names):
        yield "two groups have the same name"
    for group in spec["groups"]:
        for rule in group["rules"]:
            if ("alert" in rule) == ("record" in rule):
                yield f"{group['name']}: a rule is either an alert or a record"


def _certificate(spec: Object) -> Iterator[str]:
    if not any(spec.get(key) for key in ("commonName", "dnsNames", "uris")):
        yield "the certificate names nobody"
    if _seconds(spec["duration"]) < 3600:
        yield "duration is less than an hour"
    if _seconds(spec.get("renewBefore", "0s")) >= _seconds(spec["duration"]):
        yield "renewBefore is not less than duration"
    if spec["privateKey"]["algorithm"] == "ECDSA" and spec["privateKey"]["size"] not in (256, 384, 521):
        yield "no such size of an ECDSA key"


def _issuer(spec: Object) -> Iterator[str]:
    if len(spec) != 1:
        yield "an issuer is of exactly one kind"


def _seconds(duration: str) -> int:
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"([0-9]+)(h|m|s)", duration))


_RULES: Mapping[str, Callable[[Object], Iterator[str]]] = MappingProxyType(
    {
        "Deployment": _deployment,
        "LeaderWorkerSet": _leader_worker_set,
        "PersistentVolumeClaim": _volume_claim,
        "PodDisruptionBudget": _disruption_budget,
        "ScaledObject": _scaled_object,
        "ServiceMonitor": _service_monitor,
        "PrometheusRule": _prometheus_rule,
        "Certificate": _certificate,
        "Issuer": _issuer,
    }
)
