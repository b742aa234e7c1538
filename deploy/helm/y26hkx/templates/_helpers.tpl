{{- define "y26hkx.labels" -}}
app.kubernetes.io/name: y26hkx
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "y26hkx.name" -}}
{{ .root.Release.Name }}-{{ .component }}
{{- end }}

{{- define "y26hkx.image" -}}
{{- with .root.Values.image -}}
{{ if .registry }}{{ .registry }}/{{ end }}y26hkx-{{ $.image }}:{{ .tag }}
{{- end }}
{{- end }}

{{- define "y26hkx.keysSecret" -}}
{{ .Values.secrets.keys | default (printf "%s-keys" .Release.Name) }}
{{- end }}

{{- define "y26hkx.tokenSecret" -}}
{{ .Values.secrets.token | default (printf "%s-token" .Release.Name) }}
{{- end }}

{{- define "y26hkx.podSecurity" -}}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "y26hkx.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end }}

{{- define "y26hkx.settings" -}}
- { name: WORKER_TOKEN_FILE, value: /run/secrets/token/worker_token }
{{- if .Values.mutualTls.enabled }}
- { name: WORKER_TLS_CA, value: /run/secrets/tls/ca.crt }
- { name: WORKER_TLS_CERT, value: /run/secrets/tls/tls.crt }
- { name: WORKER_TLS_KEY, value: /run/secrets/tls/tls.key }
{{- else }}
- { name: WORKER_TRUSTED_NETWORK, value: "1" }
{{- end }}
{{- range $name, $value := .Values.settings }}
- { name: {{ $name }}, value: {{ $value | quote }} }
{{- end }}
{{- end }}

{{- define "y26hkx.mounts" -}}
- { name: tmp, mountPath: /tmp }
- { name: token, mountPath: /run/secrets/token, readOnly: true }
{{- if .root.Values.mutualTls.enabled }}
- { name: tls, mountPath: /run/secrets/tls, readOnly: true }
{{- end }}
{{- end }}

{{- define "y26hkx.volumes" -}}
- { name: tmp, emptyDir: {} }
- { name: token, secret: { secretName: {{ include "y26hkx.tokenSecret" .root }} } }
{{- if .root.Values.mutualTls.enabled }}
- { name: tls, secret: { secretName: {{ include "y26hkx.name" . }}-tls } }
{{- end }}
{{- end }}

{{- /* On a socket nobody can ask from outside of the container. */}}
{{- define "y26hkx.gatewayProbe" -}}
{{- if .Values.gateway.proxy -}}
exec: { command: [python, -S, -m, cli.probe, gateway] }
{{- else -}}
httpGet: { path: /health/live, port: http{{ if .Values.gateway.tls.secret }}, scheme: HTTPS{{ end }} }
{{- end }}
{{- end }}

{{- define "y26hkx.modelsClaim" -}}
{{- with .Values.models -}}
{{ if .existingClaim }}{{ .existingClaim }}{{ else if .newClaim.size }}{{ $.Release.Name }}-models{{ end }}
{{- end }}
{{- end }}
