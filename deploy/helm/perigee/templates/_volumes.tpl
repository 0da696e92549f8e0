{{/* Volumes of a pod that serves, and their mounts. */}}

{{- define "perigee.volumes" -}}
{{- $spec := index .root.Values .role }}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: {{ $spec.tmpSize | default "64Mi" }}}
{{- if ne .role "gateway" }}
{{- /* The processes of a worker exchange through it what the runtime's 64 MiB cannot hold. */}}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ $spec.shmSize }}}
{{- end }}
{{- include "perigee.volume.model" (dict "root" .root "readOnly" true) }}
{{- if .root.Values.tls.enabled }}
- name: certificate
  secret: {secretName: {{ include "perigee.name" . }}-tls, defaultMode: 0440}
{{- if eq .role "gateway" }}
- name: public-certificate
  secret: {secretName: {{ include "perigee.name" . }}-public-tls, defaultMode: 0440}
{{- end }}
{{- end }}
{{- if eq .role "gateway" }}
{{- with .root.Values.gateway.apiKeysSecret }}
- name: keys
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end }}
{{- end }}

{{- define "perigee.volume.model" -}}
{{- $volume := .root.Values.model.volume }}
{{- if or $volume.existingClaim $volume.create.enabled }}
- name: model
  persistentVolumeClaim:
    claimName: {{ $volume.existingClaim | default (printf "%s-model" (include "perigee.fullname" .root)) }}
    readOnly: {{ .readOnly }}
{{- else if $volume.hostPath }}
- name: model
  hostPath: {path: {{ $volume.hostPath }}, type: Directory}
{{- end }}
{{- end }}

{{- define "perigee.mount.model" -}}
{{- $volume := .root.Values.model.volume }}
{{- if or $volume.existingClaim $volume.create.enabled $volume.hostPath }}
- {name: model, mountPath: {{ .root.Values.model.path }}, readOnly: {{ .readOnly }}}
{{- end }}
{{- end }}

{{- define "perigee.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if ne .role "gateway" }}
- {name: shm, mountPath: /dev/shm}
{{- end }}
{{- include "perigee.mount.model" (dict "root" .root "readOnly" true) }}
{{- if .root.Values.tls.enabled }}
- {name: certificate, mountPath: /certs/own, readOnly: true}
{{- if eq .role "gateway" }}
- {name: public-certificate, mountPath: /certs/public, readOnly: true}
{{- end }}
{{- end }}
{{- if and (eq .role "gateway") .root.Values.gateway.apiKeysSecret }}
- {name: keys, mountPath: /keys, readOnly: true}
{{- end }}
{{- end }}
