"""The dashboard of the whole suite: what clients notice, and what it may come from."""

from __future__ import annotations

from monitoring.dashboards.grafana import Dashboard, Panel, Query, Row, quantiles

_NOW = Row(
    "Now",
    [
        Panel(
            "Workers that serve",
            "By role. Without decode nothing is answered, without vision no image.",
            [Query('max by (role) (perigee_workers{state="serving"})', "{{role}}")],
            kind="stat",
            width=6,
        ),
        Panel(
            "Requests in progress",
            "With a first token, and without.",
            [
                Query('sum(perigee_requests_running{worker=""})', "answering"),
                Query('sum(perigee_requests_waiting{worker=""})', "waiting"),
            ],
            kind="stat",
            width=6,
        ),
        Panel(
            "Tokens/s",
            "Generated tokens of all answers.",
            [Query("sum(rate(perigee_generated_tokens_total[$__rate_interval]))", "generated")],
            kind="stat",
            width=6,
        ),
        Panel(
            "Alerts",
            "Those of monitoring/rules.yml that fire.",
            [
                Query(
                    'count by (alertname) (ALERTS{alertname=~"Perigee.+",alertstate="firing"})',
                    "{{alertname}}",
                )
            ],
            kind="stat",
            width=6,
        ),
    ],
)

_REQUESTS = Row(
    "Requests",
    [
        Panel(
            "Requests/s by outcome",
            "Requests that ended.",
            [Query("sum by (outcome) (rate(perigee_requests_total[$__rate_interval]))", "{{outcome}}")],
            "reqps",
            stacked=True,
        ),
        Panel(
            "Rejected and failed requests/s by reason",
            "OVERLOADED and RATE_LIMIT_EXCEEDED are answered by 429, UNAVAILABLE by 503.",
            [
                Query(
                    'sum by (reason) (rate(perigee_request_errors_total{worker=""}[$__rate_interval]))',
                    "{{reason}}",
                )
            ],
            "reqps",
            stacked=True,
        ),
        Panel(
            "Requests in progress",
            "With a first token, and without.",
            [
                Query('sum(perigee_requests_running{worker=""})', "answering"),
                Query('sum(perigee_requests_waiting{worker=""})', "waiting"),
            ],
            stacked=True,
        ),
        Panel(
            "Tokens/s",
            "Prompt tokens, those of them that were cached, and generated ones.",
            [
                Query("sum(rate(perigee_prompt_tokens_total[$__rate_interval]))", "prompt"),
                Query("sum(rate(perigee_cached_prompt_tokens_total[$__rate_interval]))", "cached"),
                Query("sum(rate(perigee_generated_tokens_total[$__rate_interval]))", "generated"),
            ],
        ),
        Panel(
            "Tokens/s of the busiest API keys",
            "Charged tokens, prompts and answers.",
            [Query("topk(10, sum by (key) (rate(perigee_key_tokens_total[$__rate_interval])))", "{{key}}")],
        ),
        Panel(
            "Answers that lack something",
            "Per minute: replies that reasoned and then said nothing, calls that are in no answer or do not "
            "fit their schema, requests that moved to another worker.",
            [
                Query(
                    "60 * sum by (finish) (rate(perigee_unanswered_choices_total[$__rate_interval]))",
                    "silent ({{finish}})",
                ),
                Query(
                    "60 * sum by (reason) (rate(perigee_dropped_tool_calls_total[$__rate_interval]))",
                    "dropped call ({{reason}})",
                ),
                Query("60 * sum(rate(perigee_invalid_tool_calls_total[$__rate_interval]))", "invalid call"),
                Query("60 * sum(rate(perigee_failovers_total[$__rate_interval]))", "failover"),
            ],
        ),
    ],
)

_LATENCY = Row(
    "Latency",
    [
        Panel(
            "Time to first token",
            "From admission.",
            quantiles("perigee_time_to_first_token_seconds"),
            "s",
        ),
        Panel(
            "Inter-token latency",
            "Between two deltas of one choice.",
            quantiles("perigee_inter_token_latency_seconds"),
            "s",
        ),
        Panel(
            "End-to-end latency",
            "From a request's arrival to the end of its answer.",
            quantiles("perigee_request_duration_seconds"),
            "s",
        ),
        Panel(
            "Late tokens",
            "The part of first tokens that took over 5 s, and of further ones that came over 0.1 s after the "
            "one before. The objective allows 1 %.",
            [
                Query("perigee:first_tokens_late:ratio_rate5m", "first tokens"),
                Query("perigee:tokens_late:ratio_rate5m", "further tokens"),
            ],
            "percentunit",
        ),
        Panel(
            "Where requests spend their time",
            "Seconds of each stage, of an average request. They add up to its latency.",
            [
                Query(
                    "sum by (stage) (rate(perigee_stage_seconds_sum"
                    '{worker="",stage!~"grammar|encode"}[$__rate_interval])) / on () group_left () '
                    "sum(rate(perigee_request_duration_seconds_count[$__rate_interval]))",
                    "{{stage}}",
                )
            ],
            "s",
            stacked=True,
        ),
        Panel(
            "Stages, p99",
            "Requests that had the stage. grammar is a part of render, encode one of submit.",
            [
                Query(
                    "histogram_quantile(0.99, sum by (le, stage) "
                    '(rate(perigee_stage_seconds_bucket{worker=""}[$__rate_interval])))',
                    "{{stage}}",
                )
            ],
            "s",
        ),
    ],
)

_CACHE = Row(
    "KV cache and transfers",
    [
        Panel(
            "KV use",
            "The part of each worker's pages that is neither free nor only cached.",
            [Query("max by (worker) (perigee_kv_usage_ratio)", "{{worker}}")],
            "percentunit",
        ),
        Panel(
            "Prompt tokens by source",
            "Who had their KV: the decode worker's cache, the prefill worker's, nobody.",
            [
                Query(
                    "sum by (source) (rate(perigee_prompt_tokens_by_source_total[$__rate_interval])) "
                    "/ on () group_left () "
                    "sum(rate(perigee_prompt_tokens_by_source_total[$__rate_interval]))",
                    "{{source}}",
                )
            ],
            "percentunit",
            stacked=True,
        ),
        Panel(
            "Transfer speed by peer",
            "Bytes read, by the seconds in which reads were in flight.",
            [
                Query(
                    "max by (worker, peer) (rate(perigee_kv_transfer_peer_bytes_total[$__rate_interval])) / "
                    "max by (worker, peer) (rate(perigee_kv_transfer_busy_seconds_total[$__rate_interval]))",
                    "{{peer}} to {{worker}}",
                )
            ],
            "Bps",
        ),
        Panel(
            "Queues of the workers",
            "Requests that wait there.",
            [Query('max by (worker) (perigee_requests_waiting{worker!=""})', "{{worker}}")],
        ),
        Panel(
            "Preemptions/s",
            "Sequences that gave up their pages, to be computed again.",
            [Query("max by (worker) (rate(perigee_preemptions_total[$__rate_interval]))", "{{worker}}")],
        ),
        Panel(
            "Workers by state",
            "As gateways see them.",
            [Query("max by (role, state) (perigee_workers)", "{{role}} {{state}}")],
            stacked=True,
        ),
    ],
)

_GATEWAYS = Row(
    "Gateways",
    [
        Panel(
            "Cores",
            "Processor time of each gateway process. Its event loop has one core at most.",
            [
                Query(
                    'rate(process_cpu_seconds_total{worker=""}[$__rate_interval]) and on (instance) '
                    'perigee_build_info{role="gateway"}',
                    "{{instance}} {{process}}",
                )
            ],
        ),
        Panel(
            "Resident memory",
            "Memory of each gateway process.",
            [
                Query(
                    'process_resident_memory_bytes{worker=""} and on (instance) '
                    'perigee_build_info{role="gateway"}',
                    "{{instance}} {{process}}",
                )
            ],
            "bytes",
        ),
        Panel(
            "Open files",
            "Open files of each gateway process, connections above all.",
            [
                Query(
                    'process_open_fds{worker=""} and on (instance) perigee_build_info{role="gateway"}',
                    "{{instance}} {{process}}",
                )
            ],
        ),
    ],
)

OVERVIEW = Dashboard(
    "perigee-overview",
    "Perigee: overview",
    "What clients notice of a suite, and what it may come from. docs/operations.md explains the metrics.",
    [_NOW, _REQUESTS, _LATENCY, _CACHE, _GATEWAYS],
)
