{{- define "devicemesh.selector" -}}
app.kubernetes.io/name: devicemesh
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "devicemesh.labels" -}}
{{ include "devicemesh.selector" . }}
app.kubernetes.io/component: runtime
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "devicemesh.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "devicemesh.settings" -}}
{{- $api := dict "host" "0.0.0.0" "token" (dict "name" "api" "key" "token") -}}
{{- $shards := dict "mode" .Values.mode "labels" .Values.labels -}}
{{- $ours := dict "store" (dict "kind" "kubernetes") "shards" $shards "mqtt" .Values.mqtt "api" $api -}}
{{- toYaml (mergeOverwrite $ours (deepCopy .Values.settings)) -}}
{{- end }}

{{/* Where the HTTP server listens: what the probes ask. */}}
{{- define "devicemesh.port" -}}
{{- (include "devicemesh.settings" . | fromYaml).api.port | default 8080 -}}
{{- end }}

{{/* The broker's port: whatever it is, the network policy lets it through. */}}
{{- define "devicemesh.brokerPort" -}}
{{- $url := urlParse ((include "devicemesh.settings" . | fromYaml).mqtt.url) -}}
{{- $usual := dict "mqtt" "1883" "mqtts" "8883" "ws" "80" "wss" "443" -}}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (get $usual $url.scheme) -}}
{{- end }}

{{- define "devicemesh.token" -}}
{{- .Values.apiToken.existingSecret | default (printf "%s-api" .Release.Name) -}}
{{- end }}

{{/* The service account: the release's own, or one that is there. */}}
{{- define "devicemesh.account" -}}
{{- .Values.rbac.serviceAccount | default (ternary .Release.Name "devicemesh-runtime" .Values.rbac.create) -}}
{{- end }}
