{{- define "operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "operator.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "operator.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* Cluster-scoped names do not hold the release's: so Helm refuses a second operator in a cluster, which would
act on the same objects under a Lease of its own. */ -}}
{{- define "operator.clusterName" -}}
{{- .Chart.Name }}
{{- end }}

{{- define "operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* managed-by is Helm's: by the value modeldeployment-operator the operator knows its own children. */ -}}
{{- define "operator.labels" -}}
{{ include "operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: modeldeployment
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "operator.image" -}}
{{- $image := .Values.image -}}
{{- $tag := $image.tag -}}
{{- if not (or $tag $image.digest) }}{{ $tag = .Chart.AppVersion }}{{ end -}}
{{- $image.repository }}{{ with $tag }}:{{ . }}{{ end }}{{ with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- /* Namespace → names of the Secrets with Prometheus' credentials in it, as JSON. */ -}}
{{- define "operator.secrets" -}}
{{- $found := dict -}}
{{- $wanted := .Values.prometheusSecrets -}}
{{- if .Values.modelPolicy.create }}
{{- with (dig "prometheus" "secretRef" nil .Values.modelPolicy.spec) }}{{ $wanted = append $wanted . }}{{ end }}
{{- end }}
{{- range $wanted }}
{{- $_ := set $found .namespace (append (get $found .namespace | default list) .name | uniq | sortAlpha) }}
{{- end }}
{{- toJson $found }}
{{- end }}
