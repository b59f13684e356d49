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
{{- define "signalcanary.receiverFolder" -}}/etc/signalcanary/receivers/{{ . }}{{- end -}}

{{- define "signalcanary.reportsFolder" -}}/var/lib/signalcanary/reports{{- end -}}
{{- define "signalcanary.reportsCredentials" -}}/etc/signalcanary/reports{{- end -}}
{{- define "signalcanary.reportsClaim" -}}
{{- .Values.reports.volume.claimName | default (printf "%s-reports" (include "signalcanary.fullname" .)) -}}
{{- end -}}

{{- /* The affinity of one's own, and that two replicas do not share a node. */ -}}
{{- define "signalcanary.affinity" -}}
{{- $own := .Values.affinity -}}
{{- if and (gt (int .Values.replicas) 1) (ne .Values.podAntiAffinity "None") (not $own.podAntiAffinity) -}}
{{- $term := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" (dict "matchLabels" (include "signalcanary.selector" . | fromYaml)) -}}
{{- $terms := dict "requiredDuringSchedulingIgnoredDuringExecution" (list $term) -}}
{{- if eq .Values.podAntiAffinity "Preferred" -}}
{{- $terms = dict "preferredDuringSchedulingIgnoredDuringExecution" (list (dict "weight" 100 "podAffinityTerm" $term)) -}}
{{- end -}}
{{- $own = set (deepCopy $own) "podAntiAffinity" $terms -}}
{{- end -}}
{{- toYaml $own -}}
{{- end -}}

{{- /* The port of an address. */ -}}
{{- define "signalcanary.port" -}}
{{- $url := urlParse . -}}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (ternary "443" "80" (eq $url.scheme "https")) -}}
{{- end -}}

{{- define "signalcanary.testSelector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "signalcanary.testLabels" -}}
{{ include "signalcanary.testSelector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/component: test
{{- end -}}

{{- /* Takes the hook's weight. What has failed is kept, for its log. */ -}}
{{- define "signalcanary.testHook" -}}
helm.sh/hook: test
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}
