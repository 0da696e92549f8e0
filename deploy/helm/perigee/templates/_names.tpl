{{/* Names and labels. Of a role: (dict "root" $ "role" "decode"). */}}

{{- define "perigee.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end }}
{{- end }}

{{- define "perigee.name" -}}
{{ include "perigee.fullname" .root }}-{{ .role }}
{{- end }}

{{/* What selects pods: never changes. */}}
{{- define "perigee.selector" -}}
app.kubernetes.io/name: perigee
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{- define "perigee.labels" -}}
{{ include "perigee.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{/* All pods of the release that serve. */}}
{{- define "perigee.workers.selector" -}}
matchLabels:
  app.kubernetes.io/name: perigee
  app.kubernetes.io/instance: {{ .Release.Name }}
matchExpressions:
  - {key: app.kubernetes.io/component, operator: In, values: [vision, prefill, decode]}
{{- end }}

{{/* The workers' roles that there are, as a list. */}}
{{- define "perigee.workers" -}}
{{- $found := list }}
{{- range $role := list "vision" "prefill" "decode" }}
{{- if (index $.Values $role).enabled }}{{ $found = append $found $role }}{{ end }}
{{- end }}
{{- toYaml $found }}
{{- end }}

{{/* Ports by role: those of docs/operations.md. */}}
{{- define "perigee.ports" -}}
vision: {grpc: 50051, metrics: 9151}
prefill: {grpc: 50052, metrics: 9152}
decode: {grpc: 50053, metrics: 9153}
gateway: {http: 30000, grpc: 50050, operator: 50049}
{{- end }}

{{/* (dict "root" $ "image" .image): repository:tag@digest. A digest wins over the tag, which then only names it. */}}
{{- define "perigee.image" -}}
{{- $tag := .image.tag | default .root.Values.image.tag | default .root.Chart.AppVersion -}}
{{- with .root.Values.image.registry }}{{ . }}/{{ end }}{{ .image.repository }}:{{ $tag }}{{ with .image.digest }}@{{ . }}{{ end }}
{{- end }}
