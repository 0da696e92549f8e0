{{/* What the pods of both Jobs have in common. */}}
{{- define "perigee.job" -}}
restartPolicy: Never
serviceAccountName: {{ include "perigee.fullname" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- include "perigee.podSecurity" . | trim | nindent 2 }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* The end of the preflight's name: other images make another Job. */}}
{{- define "perigee.preflight.revision" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{ .Values.transfer.preflight.revision | default (regexReplaceAll "[^a-z0-9]+" (lower $tag) "-" | trunc 14 | trimSuffix "-") }}
{{- end }}

{{/* The image of the download, which is no image of Perigee: image.registry does not apply. */}}
{{- define "perigee.image.download" -}}
{{- with .Values.model.download.image -}}
{{ .repository }}{{ with .tag }}:{{ . }}{{ end }}{{ with .digest }}@{{ . }}{{ end }}
{{- end }}
{{- end }}
