{{/* What values.schema.json cannot say: values that contradict each other. */}}
{{- define "perigee.checks" -}}
{{- if gt (len .Release.Name) 24 }}
{{- fail "the release's name: 24 characters at most, since names of objects, which begin with it, have 63" }}
{{- end }}
{{- $volume := .Values.model.volume }}
{{- $volumes := list (ne $volume.existingClaim "") (ne $volume.hostPath "") $volume.create.enabled }}
{{- if gt (len (without $volumes false)) 1 }}
{{- fail "model.volume: give one of existingClaim, hostPath and create" }}
{{- end }}
{{- if .Values.model.download.enabled }}
{{- if not .Values.model.download.image.repository }}
{{- fail "model.download.image.repository: name an image that can download; Perigee's cannot" }}
{{- end }}
{{- if not (or $volume.existingClaim $volume.create.enabled) }}
{{- fail "model.download: needs model.volume.existingClaim or model.volume.create to write to" }}
{{- end }}
{{- end }}
{{- if not .Values.decode.enabled }}
{{- fail "decode.enabled: there is no suite without decode workers" }}
{{- end }}
{{- if and .Values.transfer.preflight.enabled (not .Values.gateway.operators) }}
{{- fail "transfer.preflight: asks at the operator port; set gateway.operators" }}
{{- end }}
{{- if and (eq .Values.transfer.expected "rdma") (eq .Values.rdma.mode "none") }}
{{- fail "transfer.expected: rdma needs rdma.mode device or claim" }}
{{- end }}
{{- if gt (int .Values.transfer.ports.from) (int .Values.transfer.ports.to) }}
{{- fail "transfer.ports: from is above to" }}
{{- end }}
{{- range $role := list "vision" "prefill" "decode" "gateway" }}
{{- $spec := index $.Values $role }}
{{- if and (eq (toString $spec.rollout.maxSurge) "0") (eq (toString $spec.rollout.maxUnavailable) "0") }}
{{- fail (printf "%s.rollout: maxSurge and maxUnavailable cannot both be 0" $role) }}
{{- end }}
{{- if gt (int $spec.autoscaling.min) (int $spec.autoscaling.max) }}
{{- fail (printf "%s.autoscaling: min is above max" $role) }}
{{- end }}
{{- end }}
{{- end }}
