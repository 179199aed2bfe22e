{{- define "walpurge.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "walpurge.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "walpurge.labels" -}}
{{ include "walpurge.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "walpurge.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* An external stream, which outlives a pod and is shared by all. */}}
{{- define "walpurge.external" -}}
{{- if dig "nats" "url" "" .Values.config }}yes{{ end }}
{{- end }}

{{/* The labels that a Service selects the leading pod by. */}}
{{- define "walpurge.leaderLabel" -}}
walpurge.io/leader: "true"
{{- end }}

{{/* What would lose purges, or could never work, is refused here and not in the cluster. */}}
{{- define "walpurge.check" -}}
{{- range $key := list "rules" "data_dir" }}
{{- if hasKey $.Values.config $key }}{{ fail (printf "config.%s is set by the chart: leave it out" $key) }}{{ end }}
{{- end }}
{{- if dig "http" "listen" "" .Values.config }}{{ fail "config.http.listen is set by the chart: leave it out; service.port is the port" }}{{ end }}
{{- if not (include "walpurge.external" .) }}
{{- if gt (int .Values.replicas) 1 }}{{ fail "replicas above 1 need config.nats.url: each pod would have a stream of its own, and taking over would flush every sink" }}{{ end }}
{{- if and (not .Values.persistence.enabled) (ne (dig "stream" "confirm" "synced" .Values.config) "purged") }}{{ fail "persistence.enabled: false puts the stream into an emptyDir, which goes with the pod, while PostgreSQL was told that it is safe: enable it, or set config.stream.confirm to purged, or config.nats.url" }}{{ end }}
{{- end }}
{{- if not .Values.rules }}{{ fail "rules: name at least one rules file" }}{{ end }}
{{- range $name, $_ := .Values.rules }}
{{- if not (hasSuffix ".yaml" $name) }}{{ fail (printf "rules: %q must end in .yaml, or the daemon does not read it" $name) }}{{ end }}
{{- end }}
{{- end }}

{{- define "walpurge.config" -}}
{{- $defaults := dict "http" (dict "advertise" "[${WALPURGE_POD_IP}]:7468") -}}
{{- $fixed := dict "rules" (list "rules/*.yaml") "data_dir" "/var/lib/walpurge" "http" (dict "listen" ":7468") -}}
{{ toYaml (mergeOverwrite $defaults (deepCopy .Values.config) $fixed) }}
{{- end }}

{{- define "walpurge.rules" -}}
{{- range $name, $text := .Values.rules }}
rules.{{ $name }}: |
  {{- if kindIs "string" $text }}{{ $text | trim | nindent 2 }}{{ else }}{{ toYaml $text | nindent 2 }}{{ end }}
{{- end }}
{{- end }}

{{/* A directory, not single files: only then does a change arrive in a running pod. */}}
{{- define "walpurge.volume" -}}
- name: config
  projected:
    defaultMode: 0444
    sources:
      - configMap:
          name: {{ .name }}
          items:
            - {key: walpurge.yaml, path: walpurge.yaml}
            {{- range $name, $_ := .root.Values.rules }}
            - {key: {{ printf "rules.%s" $name | quote }}, path: {{ printf "rules/%s" $name | quote }}}
            {{- end }}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- if .root.Values.secretFiles.secret }}
- name: secrets
  {{- /* Without fsGroup the files are root's, and another group's members could not read them. */}}
  secret: {secretName: {{ .root.Values.secretFiles.secret | quote }}, defaultMode: {{ if dig "fsGroup" "" (.root.Values.podSecurityContext | default dict) }}0440{{ else }}0444{{ end }}}
{{- end }}
{{- end }}

{{- define "walpurge.mounts" -}}
- {name: config, mountPath: /etc/walpurge, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- if .Values.secretFiles.secret }}
- {name: secrets, mountPath: /run/secrets/walpurge, readOnly: true}
{{- end }}
{{- end }}

{{- define "walpurge.podSecurity" -}}
{{- with .Values.podSecurityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "walpurge.security" -}}
{{- with .Values.securityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "walpurge.families" -}}
{{- with .Values.service.ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .Values.service.ipFamilies }}
ipFamilies: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "walpurge.env" -}}
- name: WALPURGE_POD_IP
  valueFrom:
    fieldRef: {fieldPath: status.podIP}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef: {name: {{ .from.secret | quote }}, key: {{ .from.key | quote }}}
{{- with .root.Values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}
