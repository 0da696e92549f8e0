{{/* Parts of NetworkPolicies. Their names say who; ports are those of perigee.ports. */}}

{{/* Workers and gateways that open connections to a role's gRPC port: the table "Calls" of docs/security.md. */}}
{{- define "perigee.callers" -}}
vision: [gateway, prefill, decode]
prefill: [gateway, decode]
decode: [gateway, prefill]
{{- end }}

{{- define "perigee.network.dns" -}}
- to:
    {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end }}

{{/* The pods of some roles, as a peer: (dict "root" $ "roles" (list "decode")). */}}
{{- define "perigee.network.peer" -}}
podSelector:
  matchLabels:
    app.kubernetes.io/name: perigee
    app.kubernetes.io/instance: {{ .root.Release.Name }}
  matchExpressions:
    - {key: app.kubernetes.io/component, operator: In, values: [{{ join ", " .roles }}]}
{{- end }}

{{- define "perigee.network.ucx" -}}
- {protocol: TCP, port: {{ .Values.transfer.ports.from }}, endPort: {{ .Values.transfer.ports.to }}}
{{- end }}
