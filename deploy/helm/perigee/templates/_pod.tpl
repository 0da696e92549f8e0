{{/* The pod of a role: (dict "root" $ "role" "decode"). */}}

{{- define "perigee.pod" -}}
{{- $values := .root.Values }}
{{- $spec := index $values .role }}
{{- $worker := ne .role "gateway" }}
metadata:
  labels:
    {{- include "perigee.selector" . | nindent 4 }}
    app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  {{- with $spec.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "perigee.fullname" .root }}
  automountServiceAccountToken: false
  # Variables such as PERIGEE_DECODE_PORT=tcp://... would be taken for settings, and refused.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "perigee.terminationSeconds" . }}
  securityContext:
    {{- include "perigee.podSecurity" . | trim | nindent 4 }}
  {{- with $values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- if and $worker $spec.gpus }}
  {{- with $values.gpu.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- end }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "perigee.selector" . | trim | nindent 10 }}
  {{- range $key := list "nodeSelector" "tolerations" "affinity" }}
  {{- with index $spec $key }}
  {{ $key }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- if and $worker (eq (include "perigee.claims" .) "true") }}
  resourceClaims:
    - name: gpus-and-nics
      resourceClaimTemplateName: {{ include "perigee.name" . }}
  {{- end }}
  {{- if and $values.model.verify.enabled (has .role (list "prefill" "decode")) }}
  initContainers:
    {{- include "perigee.verify" . | trim | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .role }}
      image: {{ include "perigee.image" (dict "root" .root "image" $spec.image) }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      env:
        {{- include "perigee.env" . | trim | nindent 8 }}
      ports:
        {{- range $name, $port := index (include "perigee.ports" .root | fromYaml) .role }}
        - {name: {{ $name }}, containerPort: {{ $port }}}
        {{- end }}
      {{- include "perigee.probes" . | trim | nindent 6 }}
      resources:
        {{- include "perigee.resources" . | trim | nindent 8 }}
      securityContext:
        {{- include "perigee.containerSecurity" . | trim | nindent 8 }}
      volumeMounts:
        {{- include "perigee.mounts" . | trim | nindent 8 }}
  volumes:
    {{- include "perigee.volumes" . | trim | nindent 4 }}
{{- end }}

{{/* Looks at the checkpoint's headers before hundreds of GB are read; fails, and is repeated, while the download
     has not finished. */}}
{{- define "perigee.verify" -}}
{{- $values := .root.Values }}
{{- $spec := index $values .role }}
- name: verify
  image: {{ include "perigee.image" (dict "root" .root "image" $spec.image) }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  command:
    - perigee
    - checkpoint
    - verify
    - {{ $values.model.path }}
    {{- with $values.model.verify.gpuMemoryGB }}
    - --tp={{ $spec.gpus | default 1 }}
    - --gpu-memory={{ . }}
    {{- end }}
  resources: {requests: {cpu: "1", memory: 512Mi}, limits: {memory: 2Gi}}
  securityContext:
    {{- include "perigee.containerSecurity" . | trim | nindent 4 }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    {{- include "perigee.mount.model" (dict "root" .root "readOnly" true) | trim | nindent 4 }}
{{- end }}

{{/* Whether the pod's GPUs come by a DRA claim. */}}
{{- define "perigee.claims" -}}
{{ and (eq .root.Values.rdma.mode "claim") (gt (int ((index .root.Values .role).gpus | default 0)) 0) }}
{{- end }}

{{- define "perigee.resources" -}}
{{- $values := .root.Values }}
{{- $spec := index $values .role }}
{{- $resources := deepCopy $spec.resources }}
{{- if ne .role "gateway" }}
{{- if eq (include "perigee.claims" .) "true" }}
{{- $_ := set $resources "claims" (list (dict "name" "gpus-and-nics")) }}
{{- else if $spec.gpus }}
{{- $limits := set ($resources.limits | default dict) $values.gpu.resourceName $spec.gpus }}
{{- if eq $values.rdma.mode "device" }}
{{- /* A pod with a part of a node's GPUs takes as many NICs. */}}
{{- $_ := set $limits $values.rdma.resourceName (min $values.rdma.count $spec.gpus) }}
{{- end }}
{{- $_ := set $resources "limits" $limits }}
{{- end }}
{{- end }}
{{- toYaml $resources }}
{{- end }}
