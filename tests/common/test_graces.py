"""The times in which processes stop lie within each other."""

from services.cli.run_config import RunConfig
from services.common import graces
from services.decode.config import DecodeConfig
from services.gateway.config import GatewayConfig
from services.prefill.config import PrefillConfig
from services.vision.config import VisionConfig


def test_workers_outlast_the_gateway_that_waits_for_its_streams_and_the_suite_outlasts_the_workers():
    gateway_s = GatewayConfig(decode="d:1").grace_seconds + graces.GATEWAY_CLOSE_S
    workers = [config().grace_seconds for config in (DecodeConfig, PrefillConfig, VisionConfig)]
    assert 0 < gateway_s < min(workers)
    assert max(workers) + graces.WORKER_CLOSE_S < RunConfig().stop_timeout_seconds
    # Under `perigee run` workers are asked to stop when the gateway is gone.
    assert gateway_s + graces.WORKER_CLOSE_S < RunConfig().stop_timeout_seconds
