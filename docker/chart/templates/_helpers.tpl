{{- define "sluice.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "sluice.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "sluice.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "sluice.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "sluice.selector" -}}
app.kubernetes.io/name: {{ include "sluice.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: cache
{{- end }}

{{- define "sluice.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/name: {{ include "sluice.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "sluice.scheme" -}}
{{- if .Values.tls.existingSecret }}https{{ else }}http{{ end }}
{{- end }}

{{/* sluice.yml: what the values say, and what the chart knows better. */}}
{{- define "sluice.config" -}}
{{- $server := dict "listen" ":5000" "drain_delay" (printf "%ds" (int .Values.drain.delay)) "drain_timeout" (printf "%ds" (int .Values.drain.timeout)) }}
{{- if .Values.tls.existingSecret }}
{{- $_ := set $server "tls" (dict "cert_file" "/etc/sluice/tls/tls.crt" "key_file" "/etc/sluice/tls/tls.key") }}
{{- end }}
{{- $own := dict "server" $server "admin" (dict "listen" ":5001") "data" "/var/lib/sluice" }}
{{- toYaml (mergeOverwrite (deepCopy .Values.config) $own) }}
{{- end }}

{{/* The pod, of either kind. */}}
{{- define "sluice.pod" -}}
metadata:
  labels:
    {{- include "sluice.selector" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # Another configuration is another pod.
    checksum/config: {{ include "sluice.config" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "sluice.fullname" . }}
  automountServiceAccountToken: false
  # They would set variables that begin with SLUICE_, which sluice takes for its settings.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ add .Values.drain.delay .Values.drain.timeout 15 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if and (eq .Values.kind "DaemonSet") .Values.persistence.hostPath.prepare }}
  initContainers:
    # A folder that the kubelet makes is root's.
    - name: prepare
      image: {{ .Values.nodes.image }}
      command: [chown, "65532:65532", /var/lib/sluice]
      securityContext:
        runAsNonRoot: false
        runAsUser: 0
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
          add: [CHOWN]
      volumeMounts:
        - name: data
          mountPath: /var/lib/sluice
  {{- end }}
  containers:
    - name: sluice
      image: {{ printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      env:
        - name: SLUICE_CONFIG
          value: /etc/sluice/sluice.yml
        # The image sets this one, and the environment stands above the file.
        - name: SLUICE_ADMIN_LISTEN
          value: ":5001"
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: registry
          containerPort: 5000
          {{- if eq .Values.kind "DaemonSet" }}
          hostPort: {{ .Values.hostPort.port }}
          hostIP: {{ .Values.hostPort.ip }}
          {{- end }}
        - name: admin
          containerPort: 5001
      # A large store is looked through while it serves; this is for slow disks.
      startupProbe:
        httpGet:
          path: /healthz
          port: admin
        periodSeconds: 2
        failureThreshold: 60
      # A cache that starts or drains is not mended by a restart: only one that does not answer is.
      livenessProbe:
        httpGet:
          path: /healthz
          port: admin
        periodSeconds: 20
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet:
          path: /readyz
          port: admin
        periodSeconds: 3
        timeoutSeconds: 3
        failureThreshold: 2
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: data
          mountPath: /var/lib/sluice
        - name: config
          mountPath: /etc/sluice/sluice.yml
          subPath: sluice.yml
          readOnly: true
        {{- if .Values.existingSecret }}
        - name: secrets
          mountPath: /etc/sluice/secrets
          readOnly: true
        {{- end }}
        {{- if .Values.tls.existingSecret }}
        - name: tls
          mountPath: /etc/sluice/tls
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "sluice.fullname" . }}
    {{- with .Values.existingSecret }}
    - name: secrets
      secret:
        secretName: {{ . }}
        # Readable for the pod's group.
        defaultMode: 0440
    {{- end }}
    {{- with .Values.tls.existingSecret }}
    - name: tls
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- if eq .Values.kind "DaemonSet" }}
    - name: data
      hostPath:
        path: {{ .Values.persistence.hostPath.path }}
        type: DirectoryOrCreate
    {{- else if not .Values.persistence.enabled }}
    - name: data
      emptyDir: {}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
