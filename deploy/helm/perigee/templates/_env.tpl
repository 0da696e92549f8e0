{{/* Environment variables of a container that serves. The first one says how services connect, so that an overlay
     can replace it by its place; the rest is sorted. */}}

{{- define "perigee.env.transport" -}}
{{- if .Values.tls.enabled }}
- {name: PERIGEE_TLS_DIR, value: /certs/own}
{{- else }}
- {name: PERIGEE_INSECURE, value: "true"}
{{- end }}
{{- end }}

{{- define "perigee.env" -}}
{{- $values := .root.Values }}
{{- $spec := index $values .role }}
{{- $env := dict "PERIGEE_MODEL" $values.model.path "PERIGEE_GRACE_SECONDS" $spec.graceSeconds }}
{{- if $values.tls.enabled }}{{ $_ := set $env "PERIGEE_TRUST_DOMAIN" $values.tls.trustDomain }}{{ end }}
{{- with $values.otlp.endpoint }}
{{- $_ := set $env "OTEL_EXPORTER_OTLP_ENDPOINT" . }}
{{- $_ := set $env "OTEL_TRACES_SAMPLER" "parentbased_traceidratio" }}
{{- $_ := set $env "OTEL_TRACES_SAMPLER_ARG" $values.otlp.samplerRatio }}
{{- end }}
{{- $own := include (ternary "perigee.env.gateway" "perigee.env.worker" (eq .role "gateway")) . | fromYaml }}
{{- range $name, $value := $spec.settings }}{{ $_ := set $own (printf "PERIGEE_%s" (upper $name)) $value }}{{ end }}
{{ include "perigee.env.transport" .root | trim }}
{{- range $name, $value := mustMergeOverwrite $env $own $spec.env }}
- name: {{ $name }}
  {{- /* Helm reads whole numbers as floating-point ones: 1e+06 would be refused. */}}
  value: {{ ternary (printf "%.15g" $value) (toString $value) (kindIs "float64" $value) | quote }}
{{- end }}
{{- end }}

{{- define "perigee.env.gateway" -}}
{{- $ports := include "perigee.ports" .root | fromYaml }}
{{- range $role := list "vision" "prefill" "decode" }}
{{- $name := include "perigee.name" (dict "root" $.root "role" $role) }}
{{- $enabled := (index $.root.Values $role).enabled }}
PERIGEE_{{ upper $role }}: {{ ternary (printf "%s:%v" $name (index $ports $role).grpc) "" $enabled | quote }}
{{- end }}
PERIGEE_REQUEST_TIMEOUT_SECONDS: {{ .root.Values.gateway.requestTimeoutSeconds }}
{{- with .root.Values.model.servedNames }}
PERIGEE_SERVED_MODEL_NAME: {{ . | quote }}
{{- end }}
{{- with .root.Values.model.profile }}
PERIGEE_MODEL_PROFILE: {{ . }}
{{- end }}
{{- if .root.Values.gateway.apiKeysSecret }}
PERIGEE_API_KEYS: /keys/keys.json
{{- end }}
{{- if .root.Values.gateway.operators }}
PERIGEE_OPERATOR_HOST: 0.0.0.0
{{- end }}
{{- if .root.Values.tls.enabled }}
PERIGEE_PUBLIC_TLS_DIR: /certs/public
{{- end }}
{{- end }}

{{- define "perigee.env.worker" -}}
{{- $values := .root.Values }}
{{- $spec := index $values .role }}
{{- $text := ne .role "vision" }}
PERIGEE_EXPECTED_TRANSPORT: {{ $values.transfer.expected }}
UCX_TLS: {{ $values.transfer.ucxTls }}
UCX_NET_DEVICES: {{ $values.transfer.ucxNetDevices }}
UCX_TCP_PORT_RANGE: {{ printf "%d-%d" (int $values.transfer.ports.from) (int $values.transfer.ports.to) }}
{{- if $spec.gpus }}
{{- /* Said outright: without a GPU it must not compute on the CPU. */}}
PERIGEE_DEVICE: cuda:0
PERIGEE_DTYPE: {{ $values.gpu.dtype }}
NVIDIA_DRIVER_CAPABILITIES: compute,utility
{{- if and $text (gt (int $spec.gpus) 1) }}
PERIGEE_TP: {{ $spec.gpus }}
{{- end }}
{{- else }}
PERIGEE_DEVICE: cpu
{{- end }}
{{- if eq .role "decode" }}
PERIGEE_REQUEST_TIMEOUT_SECONDS: {{ $values.gateway.requestTimeoutSeconds }}
{{- if $values.prefill.enabled }}
PERIGEE_PREFILL_POOL: {{ include "perigee.name" (dict "root" .root "role" "prefill") }}:50052
{{- else }}
PERIGEE_AGGREGATED: "true"
PERIGEE_PREFILL_POOL: ""
{{- end }}
{{- end }}
{{- end }}
