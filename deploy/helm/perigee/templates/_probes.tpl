{{/* Probes and the end of a container.

     startup: a gateway answers, a worker serves; it has the time in which the checkpoint must have been read.
     readiness: it serves (a gateway: text can be served), and the pod is not about to go. Asked by exec, because
       kubelet's own gRPC probe speaks no mTLS.
     liveness: it answers at all. Whether it serves, and whether its peers live, does not matter: a restart would
       bring none of them back.
     The file /tmp/leaving makes the pod unready before it drains. The preStop hook runs before a restart of the
     container too, and /tmp outlives that, so the file goes when a container starts. */}}

{{- define "perigee.health" -}}
{{- $ports := index (include "perigee.ports" .root | fromYaml) .role -}}
perigee health 127.0.0.1:{{ $ports.operator | default $ports.grpc }} --role {{ .role }}
{{- end }}

{{/* Seconds that a worker may take to start: rounded up to whole periods of ten. */}}
{{- define "perigee.startSeconds" -}}
{{- $model := .Values.model -}}
{{ mul 10 (ceil (divf (addf $model.startSeconds (divf $model.bytes $model.minimumReadBytesPerSecond)) 10) | int) }}
{{- end }}

{{- define "perigee.probes" -}}
{{- $seconds := ternary 120 (include "perigee.startSeconds" .root | int) (eq .role "gateway") }}
{{- $health := include "perigee.health" . }}
startupProbe:
  exec: {command: [{{ $health | replace " " ", " }}{{ if eq .role "gateway" }}, --alive{{ end }}]}
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: {{ div $seconds 10 }}
readinessProbe:
  exec: {command: [sh, -c, test ! -e /tmp/leaving && exec {{ $health }}]}
  periodSeconds: 5
  timeoutSeconds: 10
  failureThreshold: 2
livenessProbe:
  exec: {command: [{{ $health | replace " " ", " }}, --alive]}
  periodSeconds: 30
  timeoutSeconds: 15
  failureThreshold: 4
lifecycle:
  postStart:
    exec: {command: [rm, -f, /tmp/leaving]}
  preStop:
    exec: {command: [sh, -c, touch /tmp/leaving && exec sleep {{ .root.Values.shutdown.noticeSeconds }}]}
{{- end }}

{{/* The notice, the named grace, and what a process needs to close (docs/operations.md, "Stopping"). */}}
{{- define "perigee.terminationSeconds" -}}
{{ add .root.Values.shutdown.noticeSeconds (index .root.Values .role).graceSeconds 10 }}
{{- end }}
