{{- define "toolbox.name" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels of an object of the chart. */}}
{{- define "toolbox.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* What the pods of the control plane are known by, to the network policies of the control plane too. */}}
{{- define "toolbox.controlPlane" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/component: controlplane
{{- end -}}

{{/* The name of an image: toolbox.image (list $ "name:tag") */}}
{{- define "toolbox.image" -}}
{{- $registry := (index . 0).Values.registry | trimSuffix "/" -}}
{{- if $registry }}{{ $registry }}/{{ end }}{{ index . 1 -}}
{{- end -}}

{{/* The restricted profile of Pod Security, of a pod: toolbox.podSecurity .Values.sandbox */}}
{{- define "toolbox.podSecurity" -}}
runAsNonRoot: true
{{- with .runAsUser }}
runAsUser: {{ int64 . }}
runAsGroup: {{ int64 . }}
{{- end }}
{{- with .fsGroup }}
fsGroup: {{ int64 . }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* The same, of a container, with a root file system that cannot be written to. */}}
{{- define "toolbox.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Where pods may run: toolbox.placement .Values.sandbox */}}
{{- define "toolbox.placement" -}}
{{- $placement := pick . "nodeSelector" "tolerations" "affinity" "priorityClassName" -}}
{{- range $field, $value := $placement -}}
{{- if not $value }}{{- $_ := unset $placement $field }}{{- end -}}
{{- end -}}
{{- if $placement }}{{ toYaml $placement }}{{ end -}}
{{- end -}}
