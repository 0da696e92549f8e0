"""The gateway's own numbers."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from services.common.telemetry.cheap_metrics import (
    STAGE_BUCKETS,
    Distribution,
    LabelledTally,
    StageTimes,
    Tally,
)
from services.gateway.request_record import STAGES

_FIRST_TOKEN_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_BETWEEN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class GatewayMetrics:
    """Registers its families with `registry`; one per gateway."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.running = Tally(
            "perigee_requests_running", "Requests whose tokens are coming", registry, falls=True
        )
        self.waiting = Tally(
            "perigee_requests_waiting", "Requests admitted that have no token yet", registry, falls=True
        )
        self.requests = LabelledTally(
            "perigee_requests",
            "Requests ended, by door (rest, grpc) and outcome",
            ["door", "outcome"],
            registry,
        )
        self.key_requests = LabelledTally(
            "perigee_key_requests",
            "Requests ended, by the label of their API key and outcome",
            ["key", "outcome"],
            registry,
        )
        self.key_tokens = LabelledTally(
            "perigee_key_tokens",
            "Tokens charged to an API key, by its label and kind (prompt, generated)",
            ["key", "kind"],
            registry,
        )
        self.first_token = Distribution(
            "perigee_time_to_first_token_seconds",
            "From admission to the first token",
            _FIRST_TOKEN_BUCKETS,
            registry,
        )
        self.between_tokens = Distribution(
            "perigee_inter_token_latency_seconds",
            "Between two deltas of one choice",
            _BETWEEN_BUCKETS,
            registry,
        )
        self.duration = Distribution(
            "perigee_request_duration_seconds",
            "From a request's arrival to the end of its answer, of those that asked for tokens",
            STAGE_BUCKETS,
            registry,
        )
        self.stages = StageTimes(STAGES, registry)
        self.errors = LabelledTally(
            "perigee_request_errors", "Requests that ended with an error, by its reason", ["reason"], registry
        )
        self.token_sources = LabelledTally(
            "perigee_prompt_tokens_by_source",
            "Prompt tokens of answered requests, by who had their KV (decode_cache, prefill_cache, computed)",
            ["source"],
            registry,
        )
        self.prompt_tokens = Tally(
            "perigee_prompt_tokens", "Prompt tokens of requests that a worker took", registry
        )
        self.cached_tokens = Tally(
            "perigee_cached_prompt_tokens", "Those of them that were in a prefix cache", registry
        )
        self.generated_tokens = Tally(
            "perigee_generated_tokens", "Tokens generated, unfinished requests included", registry
        )
        self.failovers = Counter(
            "perigee_failovers",
            "Times a request went on elsewhere after a failure",
            registry=registry,
        )
        self.unanswered = Counter(
            "perigee_unanswered_choices",
            "Choices that ended behind reasoning, without content or calls, by finish reason (stop, length)",
            ["finish"],
            registry=registry,
        )
        self.refused_calls = Counter(
            "perigee_invalid_tool_calls",
            "Finished tool calls that were not valid under their schema, and so not released",
            registry=registry,
        )
        self.dropped_calls = Counter(
            "perigee_dropped_tool_calls",
            "Tool calls of the model that are in no answer, by reason (no_tool, malformed)",
            ["reason"],
            registry=registry,
        )
        self.streamed_calls = Counter(
            "perigee_streamed_tool_calls",
            "Tool calls whose arguments were sent as they came",
            registry=registry,
        )
        self.held_calls = Counter(
            "perigee_held_tool_calls",
            "Tool calls sent when they were finished, by the schema's keyword that no grammar enforces",
            ["reason"],
            registry=registry,
        )
        self.ignored_fields = Counter(
            "perigee_ignored_fields",
            "What of agents' requests was ignored, by kind (field, tool, beta)",
            ["kind"],
            registry=registry,
        )
        self.unreachable_pages = Counter(
            "perigee_worker_metrics_unreachable",
            "Times a worker's metrics page could not be gathered",
            ["worker"],
            registry=registry,
        )
