{{- define "devicemesh.labels" -}}
app.kubernetes.io/name: devicemesh
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "devicemesh.settings" -}}
{{- $api := dict "host" "0.0.0.0" "token" (dict "name" "api" "key" "token") -}}
{{- $shards := dict "mode" .Values.mode "labels" .Values.labels -}}
{{- $ours := dict "store" (dict "kind" "kubernetes") "shards" $shards "mqtt" .Values.mqtt "api" $api -}}
{{- toYaml (mergeOverwrite $ours (deepCopy .Values.settings)) -}}
{{- end }}

{{- define "devicemesh.token" -}}
{{- .Values.apiToken.existingSecret | default (printf "%s-api" .Release.Name) -}}
{{- end }}
