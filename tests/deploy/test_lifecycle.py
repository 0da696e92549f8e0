"""When a pod is started, ready, alive and gone, and that these times lie within each other."""

from __future__ import annotations

import os
import shlex
import subprocess

import pytest

from services.common import graces
from tests.deploy.objects import SCENARIOS, environment, of_kind, pod_templates, templated

ALL = list(SCENARIOS)


def containers(objects):
    """Each serving container with its pod and its role."""
    for name, template in pod_templates(objects).items():
        [container] = template["spec"]["containers"]
        yield name.removeprefix("perigee-"), template["spec"], container


def words(probe):
    command = probe["exec"]["command"]
    return command if command[0] != "sh" else shlex.split(command[2])


def seconds(probe):
    return probe["periodSeconds"] * probe["failureThreshold"]


@pytest.mark.parametrize("scenario", ALL)
def test_a_worker_may_start_for_as_long_as_reading_the_checkpoint_may_take(rendered, scenario):
    # 300 s, and 595 GB at 200 MB/s.
    expected = 330 if scenario in ("cpu-demo", "monitoring", "secure") else 300 + 2975
    for role, _, container in containers(rendered[scenario]):
        if role != "gateway":
            assert expected - 30 < seconds(container["startupProbe"]) <= expected + 10


def test_a_slower_volume_gives_more_time(helm):
    flags = "--set=model.bytes=595000000000,model.minimumReadBytesPerSecond=100000000,model.startSeconds=60"
    for role, _, container in containers(templated(helm, [], flags)):
        if role != "gateway":
            assert seconds(container["startupProbe"]) == 60 + 5950
    deployments = of_kind(templated(helm, [], flags), "Deployment").values()
    assert {each["spec"]["progressDeadlineSeconds"] for each in deployments} == {60 + 5950 + 600}


@pytest.mark.parametrize("scenario", ALL)
def test_liveness_asks_only_whether_the_process_itself_answers(rendered, scenario):
    for role, _, container in containers(rendered[scenario]):
        asked = words(container["livenessProbe"])
        assert asked[:2] == ["perigee", "health"]
        assert asked[2].startswith("127.0.0.1:")
        assert asked[-1] == "--alive"
        assert words(container["startupProbe"])[-1] == ("--alive" if role == "gateway" else role)


@pytest.mark.parametrize("scenario", ALL)
def test_readiness_is_the_ability_to_serve_and_fails_before_the_drain(rendered, scenario):
    for role, pod, container in containers(rendered[scenario]):
        ready = container["readinessProbe"]["exec"]["command"][2]
        left, check = ready.split(" && exec ")
        assert left == "test ! -e /tmp/leaving"
        assert check.split()[:2] == ["perigee", "health"]
        assert check.endswith(f"--role {role}")
        stop = container["lifecycle"]["preStop"]["exec"]["command"][2]
        touched, slept = stop.split(" && exec ")
        assert touched == "touch /tmp/leaving"
        notice = int(slept.removeprefix("sleep "))
        assert notice > seconds(container["readinessProbe"])
        # A container that starts again in the same pod is not leaving.
        assert container["lifecycle"]["postStart"]["exec"]["command"] == ["rm", "-f", "/tmp/leaving"]
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
        assert pod["terminationGracePeriodSeconds"] > notice


def test_the_probe_fails_from_the_hook_on_until_a_container_starts_anew(rendered, tmp_path):
    """The commands as they are, in a shell, with a `perigee` that always serves."""
    perigee = tmp_path / "perigee"
    perigee.write_text("#!/bin/sh\n")
    perigee.chmod(0o755)

    def succeeds(hook):
        command = [word.replace("/tmp/", f"{tmp_path}/") for word in hook["exec"]["command"]]
        command[-1] = command[-1].replace("sleep 15", "sleep 0")
        path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        return subprocess.run(command, env=path).returncode == 0

    for _, _, container in containers(rendered["cpu-demo"]):
        probe, lifecycle = container["readinessProbe"], container["lifecycle"]
        assert succeeds(lifecycle["postStart"])
        assert succeeds(probe)
        assert succeeds(lifecycle["preStop"])
        assert not succeeds(probe)
        assert succeeds(lifecycle["postStart"])
        assert succeeds(probe)


@pytest.mark.parametrize("scenario", ALL)
def test_a_pod_is_not_killed_before_its_named_grace_is_over(rendered, scenario):
    for role, pod, container in containers(rendered[scenario]):
        notice = int(container["lifecycle"]["preStop"]["exec"]["command"][2].rsplit(" ", 1)[1])
        grace = float(environment(container)["PERIGEE_GRACE_SECONDS"])
        closes = graces.GATEWAY_CLOSE_S if role == "gateway" else graces.WORKER_CLOSE_S
        assert notice + grace + closes <= pod["terminationGracePeriodSeconds"] <= notice + grace + closes + 10


@pytest.mark.parametrize("scenario", ALL)
def test_no_request_outlasts_the_grace_of_its_gateway(rendered, scenario):
    for role, _, container in containers(rendered[scenario]):
        values = environment(container)
        if role == "gateway":
            assert float(values["PERIGEE_REQUEST_TIMEOUT_SECONDS"]) <= float(values["PERIGEE_GRACE_SECONDS"])


@pytest.mark.parametrize("scenario", ALL)
def test_one_pod_of_a_role_at_a_time_may_be_evicted(rendered, scenario):
    budgets = of_kind(rendered[scenario], "PodDisruptionBudget")
    templates = pod_templates(rendered[scenario])
    assert budgets.keys() == templates.keys()
    for name, budget in budgets.items():
        assert budget["spec"]["maxUnavailable"] == 1
        selected = budget["spec"]["selector"]["matchLabels"].items()
        assert [each for each, pod in templates.items() if selected <= pod["metadata"]["labels"].items()] == [
            name
        ]


@pytest.mark.parametrize("scenario", ALL)
def test_replicas_are_spread_over_nodes(rendered, scenario):
    for template in pod_templates(rendered[scenario]).values():
        [spread] = template["spec"]["topologySpreadConstraints"]
        assert spread["topologyKey"] == "kubernetes.io/hostname"
        assert spread["labelSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


def test_where_two_workers_of_a_role_run_one_always_serves_during_a_rollout(rendered):
    for scenario in ("cpu-demo", "h200-pd"):
        for each in of_kind(rendered[scenario], "Deployment").values():
            update = each["spec"]["strategy"]["rollingUpdate"]
            assert each["spec"]["replicas"] - update["maxUnavailable"] >= 1
            assert each["spec"]["minReadySeconds"] > 2
