{{- define "cairn.image" -}}
{{ .root.Values.image.registry }}/{{ .name }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "cairn.labels" -}}
app.kubernetes.io/name: cairn
app.kubernetes.io/part-of: cairn
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- define "cairn.selector" -}}
app.kubernetes.io/name: cairn
app.kubernetes.io/component: {{ . }}
{{- end }}
