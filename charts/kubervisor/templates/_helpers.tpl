{{- define "kubervisor.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "kubervisor.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "kubervisor.name" .) .Release.Name -}}
{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name (include "kubervisor.name" .) | trunc 63 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- /* Of what lies outside the release's namespace: releases of one name in two namespaces do not take it from each other. */ -}}
{{- define "kubervisor.outside" -}}
{{ include "kubervisor.fullname" . }}.{{ .Release.Namespace }}
{{- end }}

{{- define "kubervisor.selector" -}}
app.kubernetes.io/name: {{ include "kubervisor.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* Of the Job that gives pods back, in the place of the name. */ -}}
{{- define "kubervisor.releaseName" -}}
{{ include "kubervisor.name" . | trunc 55 }}-release
{{- end }}

{{- define "kubervisor.labels" -}}
{{ include "kubervisor.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "kubervisor.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "kubervisor.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | required "serviceAccount.name is needed where serviceAccount.create is false" }}
{{- end -}}
{{- end }}

{{- /* Its user, as the API server names it. */ -}}
{{- define "kubervisor.account" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "kubervisor.serviceAccount" . }}
{{- end }}

{{- define "kubervisor.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- /* The Lease has the release's name, so that two releases in one namespace do not wait for each other. */ -}}
{{- define "kubervisor.lease" -}}
{{ include "kubervisor.fullname" . }}
{{- end }}

{{- /* What is used in every namespace that is looked after. */ -}}
{{- define "kubervisor.rules" -}}
- apiGroups: [kubervisor.k8s.io]
  resources: [kubervisorservices]
  verbs: [get, list, watch]
- apiGroups: [kubervisor.k8s.io]
  resources: [kubervisorservices/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch{{ if .Values.rbac.patchServices }}, patch{{ end }}]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch]
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
- apiGroups: [apps]
  resources: [replicasets, statefulsets, daemonsets]
  verbs: [list]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}

{{- /* What the program refuses at its start, which would be seen in the rollout only. The URL may stand elsewhere. */ -}}
{{- define "kubervisor.prometheusFits" -}}
{{- $prometheus := .Values.prometheus }}
{{- $elsewhere := regexMatch "prometheus-url|PROMETHEUS_URL" (printf "%s%s" (toJson .Values.extraArgs) (toJson .Values.extraEnv)) }}
{{- if not (or $elsewhere $prometheus.url) }}
{{- range $value := list "enforceNamespace" "serverName" "insecureSkipVerify" "caSecret" "bearerTokenSecret" "basicAuthSecret" "clientCertSecret" "headers" }}
{{- if index $prometheus $value }}
{{- fail (printf "prometheus.%s says how prometheus.url is asked, which is not set: set it, or leave the other out" $value) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and $prometheus.url (not (hasPrefix "https://" (lower $prometheus.url))) }}
{{- range $value := list "serverName" "insecureSkipVerify" "caSecret" "clientCertSecret" }}
{{- if index $prometheus $value }}
{{- fail (printf "prometheus.%s is about TLS, and prometheus.url is no https:// URL: write it as one, or leave the other out" $value) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and $prometheus.bearerTokenSecret $prometheus.basicAuthSecret }}
{{- fail "prometheus.bearerTokenSecret and prometheus.basicAuthSecret are two logins for one server: leave one of them out" }}
{{- end }}
{{- end }}

{{- /* Secrets that the flags read: name of the volume to the Secret. Only the named key is mounted. */ -}}
{{- define "kubervisor.volumes" -}}
{{- range $volume, $secret := dict "ca" .Values.prometheus.caSecret "token" .Values.prometheus.bearerTokenSecret "login" .Values.prometheus.basicAuthSecret }}
{{- if $secret }}
- name: prometheus-{{ $volume }}
  secret: {secretName: {{ $secret.name }}, items: [{key: {{ $secret.key }}, path: {{ $secret.key }}}]}
{{- end }}
{{- end }}
{{- with .Values.prometheus.clientCertSecret }}
- name: prometheus-client
  secret: {secretName: {{ . }}}
{{- end }}
{{- end }}

{{- define "kubervisor.mounts" -}}
{{- range $volume, $secret := dict "ca" .Values.prometheus.caSecret "token" .Values.prometheus.bearerTokenSecret "login" .Values.prometheus.basicAuthSecret "client" .Values.prometheus.clientCertSecret }}
{{- if $secret }}
- {name: prometheus-{{ $volume }}, mountPath: /etc/prometheus-{{ $volume }}, readOnly: true}
{{- end }}
{{- end }}
{{- end }}
