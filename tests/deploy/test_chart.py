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

    one, other = (released(helm, name, *files) for name in ("perigee", "second"))
    names = [set(_names(text)) for text in (one, other)]
    assert not names[0] & names[1]
    assert "app.kubernetes.io/instance: perigee" not in other


def test_names_are_not_too_long_for_labels_or_the_release_is_refused(helm):
    files = [f"--values={CHART / f'values-{name}.yaml'}" for name in ("h200-pd", "monitoring", "secure")]
    revisions = "--set=image.tag=1.2.3-with.a.very-long-tag.4,model.download.revision=revision-of-14"
    assert max(map(len, _names(released(helm, "r" * 24, *files, revisions)))) <= 63
    with pytest.raises(subprocess.CalledProcessError) as refused:
        released(helm, "r" * 25)
    assert "24 characters at most" in refused.value.stderr


def released(helm, name, *flags):
    """The text that `helm template` gives for a release of this name."""
    command = [helm, "template", name, str(CHART), *flags]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _names(text):
    return [line.removeprefix("  name: ") for line in text.splitlines() if line.startswith("  name: ")]
