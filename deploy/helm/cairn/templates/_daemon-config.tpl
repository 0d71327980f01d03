{{- define "cairn.daemonConfig" -}}
# `cairnd --print-default-config` tells every key.
data_dir = "/var/lib/cairn/data"

[nfs]
listen = "0.0.0.0:{{ .Values.daemon.nfsPort }}"

[rpc.tcp]
listen = "0.0.0.0:{{ .Values.daemon.rpcPort }}"
certificate = "/etc/cairn-tls/tls.crt"
key = "/etc/cairn-tls/tls.key"
client_ca = "/etc/cairn-tls/ca.crt"
control_clients = ["cairn-operator.{{ .Release.Namespace }}.svc"]

[http]
listen = "0.0.0.0:{{ .Values.daemon.httpPort }}"

[limits]
shutdown_seconds = {{ .Values.daemon.shutdownSeconds }}

[log]
format = "json"
level = "{{ .Values.daemon.logLevel }}"
{{- if .Values.daemon.directories.enabled }}

[directories]
roots = ["{{ .Values.daemon.directories.kubelet }}/pods"{{ range .Values.daemon.directories.roots }}, "{{ . }}"{{ end }}]
{{- end }}
{{- with .Values.daemon.extraConfig }}

{{ . | trimSuffix "\n" }}
{{- end }}
{{- end }}
