"""The chart is sound, and values that mean nothing or contradict each other are refused by name."""

from __future__ import annotations

import subprocess

import pytest

from scripts.manifests.chart import CHART
from tests.deploy.objects import SCENARIOS, of_kind, templated


@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_lint_finds_nothing(helm, scenario):
    files = [f"--values={CHART / f'values-{name}.yaml'}" for name in SCENARIOS[scenario]]
    done = subprocess.run([helm, "lint", "--strict", str(CHART), *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("decode.replica=2", "replica"),
        ("gateway.gpus=1", "gpus"),
        ("decode.replicas=two", "/decode/replicas"),
        ("decode.kind=StatefulSet", "/decode/kind"),
        ("model.volume.create.size=much", "/model/volume/create/size"),
        ("vision.image.digest=sha256:12", "/vision/image/digest"),
        ("tls.duration=90", "/tls/duration"),
        ("model.download.revision=v_1", "/model/download/revision"),
        ("decode.enabled=false", "there is no suite without decode workers"),
        ("transfer.preflight.enabled=true", "set gateway.operators"),
        ("transfer.expected=rdma", "rdma needs rdma.mode"),
        ("transfer.ports.from=30000", "from is above to"),
        ("model.download.enabled=true", "name an image that can download"),
        (
            "model.volume.hostPath=/a,model.volume.existingClaim=b",
            "give one of existingClaim, hostPath and create",
        ),
        ("decode.rollout.maxSurge=0", "decode.rollout: maxSurge and maxUnavailable cannot both be 0"),
        ("decode.autoscaling.min=9", "decode.autoscaling: min is above max"),
    ],
)
def test_wrong_values_are_refused(helm, flags, says):
    with pytest.raises(subprocess.CalledProcessError) as refused:
        templated(helm, [], f"--set={flags}")
    assert says in refused.value.stderr


def test_a_digest_and_a_registry_are_part_of_the_image(helm):
    digest = "sha256:" + "0123456789abcdef" * 4
    flags = f"--set=image.registry=registry.example.org/team,image.tag=1.2.3,decode.image.digest={digest}"
    images = {
        name: each["spec"]["template"]["spec"]["containers"][0]["image"]
        for name, each in of_kind(templated(helm, [], flags), "Deployment").items()
    }
    assert images["perigee-decode"] == f"registry.example.org/team/perigee/decode:1.2.3@{digest}"
    assert images["perigee-gateway"] == "registry.example.org/team/perigee/gateway:1.2.3"


def test_two_releases_share_no_name_and_select_no_pod_of_each_other(helm):
    files = [f"--values={CHART / f'values-{name}.yaml'}" for name in ("h200-pd", "monitoring", "secure")]

    def render(release):
        done = subprocess.run(
            [helm, "template", release, str(CHART), *files], capture_output=True, text=True, check=True
        )
        return done.stdout

    one, other = render("perigee"), render("second")
    names = [set(_names(text)) for text in (one, other)]
    assert not names[0] & names[1]
    assert "app.kubernetes.io/instance: perigee" not in other


def _names(text):
    return [line for line in text.splitlines() if line.startswith("  name: ")]
