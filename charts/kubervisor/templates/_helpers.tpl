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
