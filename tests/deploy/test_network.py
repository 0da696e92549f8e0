"""NetworkPolicies let through what the suite needs, and nobody else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from services.cli.roles import config_class
from services.common.rpc.callers import CALLERS
from tests.deploy.objects import SCENARIOS, of_kind, pod_templates, templated

WORKERS = ("vision", "prefill", "decode")
UCX = (20000, 20255)
DNS = {"k8s-app": "kube-dns"}


class Network:
    """The policies of a scenario, asked by the labels of pods."""

    def __init__(self, objects):
        self._policies = [each["spec"] for each in of_kind(objects, "NetworkPolicy").values()]
        self.labels = {
            name.removeprefix("perigee-"): template["metadata"]["labels"]
            for name, template in pod_templates(objects).items()
        }
        for name, job in of_kind(objects, "Job").items():
            self.labels[name.removeprefix("perigee-")] = job["spec"]["template"]["metadata"]["labels"]

    def selects(self, labels, kind):
        return [
            each
            for each in self._policies
            if kind in each["policyTypes"] and _matches(each["podSelector"], labels)
        ]

    def lets(self, source, target, port, protocol="TCP"):
        """Whether a connection between two pods of this namespace passes both ends' policies."""
        leaves = self.selects(source, "Egress")
        enters = self.selects(target, "Ingress")
        return (not leaves or self._any(leaves, "egress", "to", target, port, protocol)) and (
            not enters or self._any(enters, "ingress", "from", source, port, protocol)
        )

    @staticmethod
    def _any(policies, direction, side, labels, port, protocol):
        return any(
            _covers(rule, port, protocol)
            and (side not in rule or any(_is(peer, labels) for peer in rule[side]))
            for policy in policies
            for rule in policy.get(direction, [])
        )


def _covers(rule, port, protocol):
    return "ports" not in rule or any(
        each["protocol"] == protocol and each["port"] <= port <= each.get("endPort", each["port"])
        for each in rule["ports"]
    )


def _is(peer, labels):
    """Whether a pod of this namespace, or one whose labels name its own, is this peer."""
    namespace = peer.get("namespaceSelector", {}).get("matchLabels", {})
    if namespace and namespace != labels.get("namespace"):
        return False
    if "namespace" in labels and not namespace:
        return False
    return _matches(peer.get("podSelector", {}), labels)


def _matches(selector, labels):
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    return all(
        labels.get(each["key"]) in each["values"]
        for each in selector.get("matchExpressions", [])
        if each["operator"] == "In"
    )


def grpc_port(role):
    return config_class(role)().port


@pytest.fixture(params=["cpu-demo", "h200-pd", "h200-pd-lws", "secure", "monitoring"])
def network(request, rendered):
    return Network(rendered[request.param])


STRANGER = {"app": "stranger"}
IN_MONITORING = {"namespace": {"kubernetes.io/metadata.name": "monitoring"}}
IN_KEDA = {"namespace": {"kubernetes.io/metadata.name": "keda"}}
COLLECTOR = {"namespace": {"kubernetes.io/metadata.name": "observability"}}
RESOLVER = {"namespace": {"kubernetes.io/metadata.name": "kube-system"}, **DNS}


def test_who_calls_a_role_by_the_table_of_rpcs_reaches_its_port_and_nobody_else_does(network):
    for role in WORKERS:
        service = {
            "vision": ("VisionService",),
            "prefill": ("PrefillService",),
            "decode": ("DecodeService", "PageService"),
        }
        callers = {
            caller
            for rpc, allowed in CALLERS.items()
            if any(f".{name}/" in rpc for name in (*service[role],))
            for caller in allowed
        } | {"gateway"}
        for other in (*WORKERS, "gateway"):
            expected = other in callers
            assert network.lets(network.labels[other], network.labels[role], grpc_port(role)) == expected, (
                other,
                role,
            )
        assert not network.lets(STRANGER, network.labels[role], grpc_port(role))


def test_workers_reach_each_other_on_the_pinned_ports_of_ucx_alone(network):
    for one in WORKERS:
        for other in WORKERS:
            for port in UCX:
                assert network.lets(network.labels[one], network.labels[other], port)
            for port in (UCX[0] - 1, UCX[1] + 1, 22):
                assert not network.lets(network.labels[one], network.labels[other], port)
        assert not network.lets(network.labels["gateway"], network.labels[one], UCX[0])
        assert not network.lets(STRANGER, network.labels[one], UCX[0])


def test_only_the_gateway_reads_the_workers_metrics(network):
    for role in WORKERS:
        port = config_class(role)().metrics_port
        assert network.lets(network.labels["gateway"], network.labels[role], port)
        assert not network.lets(STRANGER, network.labels[role], port)
        assert not network.lets(IN_MONITORING, network.labels[role], port)


def test_everybody_resolves_names_and_nobody_reaches_the_internet(network):
    for role, labels in network.labels.items():
        for protocol in ("UDP", "TCP"):
            assert network.lets(labels, RESOLVER, 53, protocol), role
        if not role.startswith("download"):
            assert not network.lets(labels, {"namespace": {"a": "world"}}, 443), role


def test_clients_reach_rest_and_grpc_and_not_the_operator_port(network):
    gateway = network.labels["gateway"]
    for port in (30000, 50050):
        assert network.lets(STRANGER, gateway, port)
    assert not network.lets(STRANGER, gateway, 50049)


def test_operators_and_the_preflight_reach_the_operator_port_where_it_is_open(rendered):
    network = Network(rendered["h200-pd"])
    gateway = network.labels["gateway"]
    assert network.lets({"perigee.dev/operator": "true"}, gateway, 50049)
    assert network.lets(network.labels["transfer-check-0-1-0"], gateway, 50049)
    assert not network.lets(network.labels["decode"], gateway, 50049)


def test_monitoring_lets_prometheus_and_keda_read_the_gateway_and_traces_leave(rendered):
    network = Network(rendered["monitoring"])
    gateway = network.labels["gateway"]
    for peer in (IN_MONITORING, IN_KEDA):
        assert network.lets(peer, gateway, 30000)
        assert not network.lets(peer, gateway, 50050)
        assert not Network(rendered["cpu-demo"]).lets(peer, gateway, 30000)
    for role in (*WORKERS, "gateway"):
        assert network.lets(network.labels[role], COLLECTOR, 4318)
        assert not Network(rendered["cpu-demo"]).lets(network.labels[role], COLLECTOR, 4318)


def test_the_ingress_controller_can_be_named_as_the_only_client(helm):
    flags = (
        "--set-json=networkPolicy.clients="
        '[{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}]'
    )
    network = Network(templated(helm, [], flags))
    ingress = {"namespace": {"kubernetes.io/metadata.name": "ingress"}}
    assert network.lets(ingress, network.labels["gateway"], 30000)
    assert not network.lets(STRANGER, network.labels["gateway"], 30000)


@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_every_pod_is_under_a_policy_of_both_directions(rendered, scenario):
    network = Network(rendered[scenario])
    for role, labels in network.labels.items():
        assert network.selects(labels, "Ingress"), role
        assert network.selects(labels, "Egress"), role


@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_ucx_listens_on_the_ports_that_the_policies_name(rendered, scenario):
    for name, template in pod_templates(rendered[scenario]).items():
        values = {each["name"]: each.get("value") for each in template["spec"]["containers"][0]["env"]}
        if name != "perigee-gateway":
            assert values["UCX_TCP_PORT_RANGE"] == f"{UCX[0]}-{UCX[1]}"


def test_ucx_keeps_to_the_range_that_its_variable_names():
    script = """
import os
from services.engine.kv_transfer.agents.nixl_agent import NixlAgent
agent = NixlAgent("listener")
agent.open()
files = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
own = {os.readlink(file) for file in files if os.path.islink(file)}
for line in open("/proc/self/net/tcp").read().splitlines()[1:]:
    _, local, _, state, *rest = line.split()
    if state == "0A" and f"socket:[{rest[5]}]" in own:
        print(int(local.rpartition(":")[2], 16))
"""
    environment = {
        **os.environ,
        "UCX_TLS": "tcp",
        "UCX_NET_DEVICES": "lo",
        "UCX_TCP_PORT_RANGE": f"{UCX[0]}-{UCX[1]}",
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    ports = [int(line) for line in done.stdout.split()]
    assert ports
    assert all(UCX[0] <= port <= UCX[1] for port in ports)
