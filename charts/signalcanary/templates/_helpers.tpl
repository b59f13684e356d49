{{- define "signalcanary.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{- end -}}
{{- end -}}

{{- define "signalcanary.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "signalcanary.labels" -}}
{{ include "signalcanary.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/component: operator
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "signalcanary.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "signalcanary.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- /* An image by digest where there is one, else by tag. Takes (dict "image" … "default" …). */ -}}
{{- define "signalcanary.image" -}}
{{- if .image.digest -}}{{ .image.repository }}@{{ .image.digest }}
{{- else -}}{{ .image.repository }}:{{ .image.tag | default .default }}{{- end -}}
{{- end -}}

{{- define "signalcanary.sourceFolder" -}}/etc/signalcanary/credentials/{{ . }}{{- end -}}
