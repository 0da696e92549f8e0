"""The dashboard of the workers: load, steps, transfers and processes of those chosen."""

from __future__ import annotations

from collections.abc import Sequence

from monitoring.dashboards.grafana import Dashboard, Panel, Query, Row

_CHOSEN = 'worker=~"$worker"'


def _each(metric: str, also: str = "") -> Query:
    """Returns the values of each worker, once, although every gateway shows them."""
    labels = f"worker, {also}" if also else "worker"
    legend = f"{{{{worker}}}} {{{{{also}}}}}" if also else "{{worker}}"
    return Query(f"max by ({labels}) ({metric}{{{_CHOSEN}}})", legend)


def _rate(counter: str, also: str = "") -> str:
    """Returns how much a worker's counter grows in a second."""
    labels = f"worker, {also}" if also else "worker"
    return f"max by ({labels}) (rate({counter}{{{_CHOSEN}}}[$__rate_interval]))"


def _mean(histogram: str, also: str = "") -> str:
    """Returns the mean of a worker's histogram."""
    return f"{_rate(f'{histogram}_sum', also)} / {_rate(f'{histogram}_count', also)}"


def _percentiles(histogram: str) -> Sequence[Query]:
    return [
        Query(
            f"histogram_quantile({part}, max by (worker, le) "
            f"(rate({histogram}_bucket{{{_CHOSEN}}}[$__rate_interval])))",
            f"{{{{worker}}}} {name}",
        )
        for part, name in ((0.5, "p50"), (0.99, "p99"))
    ]


_LOAD = Row(
    "Load",
    [
        Panel("Running", "Requests that are computed.", [_each("perigee_requests_running")]),
        Panel("Waiting", "Requests in the queue.", [_each("perigee_requests_waiting")]),
        Panel(
            "Errors/s by reason",
            "Requests that ended with an error here; on prefill, refusals.",
            [Query(_rate("perigee_request_errors_total", "reason"), "{{worker}} {{reason}}")],
        ),
        Panel(
            "Pages by state",
            "They add up to the pools. Pages that stay quarantined mean that a peer hangs.",
            [
                Query(
                    f"sum by (state) (max by (worker, state) (perigee_kv_pages{{{_CHOSEN}}}))",
                    "{{state}}",
                )
            ],
            stacked=True,
        ),
        Panel(
            "KV use", "Pages neither free nor only cached.", [_each("perigee_kv_usage_ratio")], "percentunit"
        ),
        Panel("Preemptions/s", "On decode.", [Query(_rate("perigee_preemptions_total"), "{{worker}}")]),
    ],
)

_STEPS = Row(
    "Steps of prefill and decode",
    [
        Panel("Step time", "Seconds of a pass.", _percentiles("perigee_step_seconds"), "s"),
        Panel(
            "Batch size",
            "Running sequences in an average pass; on prefill, prompts.",
            [Query(_mean("perigee_step_sequences"), "{{worker}}")],
        ),
        Panel(
            "Prompt tokens/s",
            "Computed in passes.",
            [Query(_rate("perigee_step_prompt_tokens_sum"), "{{worker}}")],
        ),
        Panel(
            "Stages",
            "Seconds of an average request in each stage of the worker.",
            [Query(_mean("perigee_stage_seconds", "stage"), "{{worker}} {{stage}}")],
            "s",
            width=16,
        ),
        Panel(
            "Images and videos/s",
            "On vision: found in its cache, and computed.",
            [
                Query(_rate("perigee_vision_cache_hits_total"), "{{worker}} found"),
                Query(_rate("perigee_vision_cache_misses_total"), "{{worker}} computed"),
            ],
        ),
    ],
)

_PAIR = "{{peer}} to {{worker}}"

_TRANSFERS = Row(
    "Transfers of KV",
    [
        Panel(
            "Bytes/s by peer",
            "On decode from prefill, on prefill from decode.",
            [Query(_rate("perigee_kv_transfer_peer_bytes_total", "peer"), _PAIR)],
            "Bps",
        ),
        Panel(
            "Speed by peer",
            "Bytes read, by the seconds in which reads were in flight.",
            [
                Query(
                    f"{_rate('perigee_kv_transfer_peer_bytes_total', 'peer')} / "
                    f"{_rate('perigee_kv_transfer_busy_seconds_total', 'peer')}",
                    _PAIR,
                )
            ],
            "Bps",
        ),
        Panel(
            "Exposed time",
            "Seconds for which a transfer was all that its request waited for, of an average transfer.",
            [
                Query(
                    f"{_rate('perigee_kv_transfer_exposed_seconds_total', 'peer')} / "
                    f"{_rate('perigee_kv_transfers_total', 'peer')}",
                    _PAIR,
                )
            ],
            "s",
        ),
        Panel(
            "Transfers/s",
            "Reads of a request's KV from a peer.",
            [Query(_rate("perigee_kv_transfers_total", "peer"), _PAIR)],
        ),
        Panel(
            "Failed transfers/s",
            "The KV came from elsewhere then.",
            [Query(_rate("perigee_kv_transfer_failures_total", "peer"), _PAIR)],
        ),
        Panel("Integrity failures", "Must stay 0.", [_each("perigee_integrity_failures_total")]),
    ],
)

_PROCESSES = Row(
    "Processes",
    [
        Panel("Cores", "Processor time.", [Query(_rate("process_cpu_seconds_total"), "{{worker}}")]),
        Panel(
            "Resident memory",
            "Host memory of each process.",
            [_each("process_resident_memory_bytes")],
            "bytes",
        ),
        Panel(
            "Age",
            "Since the process started.",
            [Query(f"time() - max by (worker) (process_start_time_seconds{{{_CHOSEN}}})", "{{worker}}")],
            "s",
        ),
        Panel("Draining", "1: admits nothing new.", [_each("perigee_draining")]),
        Panel(
            "Pages that gateways could not read, per minute",
            "Pages of metrics. A worker that is gone has none.",
            [
                Query(
                    "60 * sum by (worker) "
                    f"(rate(perigee_worker_metrics_unreachable_total{{{_CHOSEN}}}[$__rate_interval]))",
                    "{{worker}}",
                )
            ],
        ),
        Panel("Open files", "Connections and shared memory.", [_each("process_open_fds")]),
    ],
)

WORKERS = Dashboard(
    "perigee-workers",
    "Perigee: workers",
    "Load, steps, transfers and processes of the workers. docs/operations.md explains the metrics.",
    [_LOAD, _STEPS, _TRANSFERS, _PROCESSES],
    choices=[("worker", "label_values(perigee_kv_usage_ratio, worker)")],
)
