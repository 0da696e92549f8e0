{{/* What each role is scaled by. Every gateway shows every worker: `max by (worker)` counts each once. Queries are
     totals; KEDA divides them by the threshold, which is what one worker should have. */}}

{{- define "perigee.query" -}}
{{- $more := "" }}
{{- with .root.Values.monitoring.prometheus.selector }}{{ $more = printf ",%s" . }}{{ end }}
{{- $of := printf "and on (worker) perigee_build_info{role=%q%s}" .role $more }}
{{- if eq .role "gateway" -}}
sum(perigee_requests_running{worker=""{{ $more }}}) + sum(perigee_requests_waiting{worker=""{{ $more }}})
{{- else if eq .role "vision" -}}
sum(max by (worker) (perigee_requests_waiting{worker!=""{{ $more }}} {{ $of }}))
{{- else if eq .role "prefill" -}}
sum(max by (worker) (perigee_queued_tokens{worker!=""{{ $more }}} {{ $of }}))
{{- else -}}
sum(max by (worker) (perigee_kv_usage_ratio{worker!=""{{ $more }}} {{ $of }}))
{{- end }}
{{- end }}
