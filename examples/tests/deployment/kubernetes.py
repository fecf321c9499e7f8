"""Checks manifests on standard input against Kubernetes' strict schemas, and what others define against the
tables below; prints them as JSON. Whatever is wrong goes to standard error, one line each."""

import json
import sys

import kubernetes_validate
import yaml

VERSION = "1.36"

# KEDA's resource definition, config/crd/bases/keda.sh_scaledobjects.yaml of kedacore/keda (2.20), as far as it is
# used here, and below it what the scalers read: pkg/scalers/nats_jetstream_scaler.go, metrics_api_scaler.go.
SPEC = {
    "scaleTargetRef": {"apiVersion", "kind", "name", "envSourceContainerName"},
    "advanced": {"horizontalPodAutoscalerConfig", "restoreToOriginalReplicaCount", "scalingModifiers"},
    "pollingInterval": int,
    "initialCooldownPeriod": int,
    "cooldownPeriod": int,
    "idleReplicaCount": int,
    "minReplicaCount": int,
    "maxReplicaCount": int,
    "fallback": {"failureThreshold", "replicas", "behavior"},
    "triggers": list,
}
TRIGGER = {"type", "name", "metadata", "metricType", "useCachedMetrics", "authenticationRef"}
METADATA = {
    "nats-jetstream": (
        {"natsServerMonitoringEndpoint", "account", "stream", "consumer"},
        {"accountID", "lagThreshold", "activationLagThreshold", "useHttps"},
    ),
    "metrics-api": (
        {"url", "valueLocation", "targetValue"},
        {"activationTargetValue", "format", "unsafeSsl", "timeout", "authMode"},
    ),
}

# The Prometheus Operator's definitions (monitoring.coreos.com/v1), as far as they are used here.
MONITORING = {
    "PodMonitor": {"jobLabel", "selector", "podMetricsEndpoints"},
    "PrometheusRule": {"groups"},
}
MONITORED = {
    "podMetricsEndpoints": {"port", "path", "interval"},
    "groups": {"name", "rules"},
    "rules": {"alert", "expr", "for", "labels", "annotations"},
}


def monitoring(kind, spec):
    """What is wrong with an object of the Prometheus Operator."""
    yield from (f"{key} is no field" for key in set(spec) - MONITORING[kind])
    yield from (f"{key} is missing" for key in MONITORING[kind] - set(spec))
    for name, fields in MONITORED.items():
        lists = [spec.get(name, []), *(group.get(name, []) for group in spec.get("groups", []))]
        for entry in sum(lists, []):
            yield from (f"{name}.{key} is no field" for key in set(entry) - fields)
            yield from (f"{name}.{key} is missing" for key in fields - set(entry))


def scaled_object(spec):
    """What is wrong with a ScaledObject's spec."""
    for key, value in spec.items():
        kind = SPEC.get(key)
        if kind is None:
            yield f"{key} is no field"
        elif isinstance(kind, set):
            yield from (f"{key}.{field} is no field" for field in set(value) - kind)
        elif not isinstance(value, kind):
            yield f"{key} is no {kind.__name__}"
    yield from (f"{key} is missing" for key in ("scaleTargetRef", "triggers") if key not in spec)
    for trigger in spec.get("triggers", []):
        yield from (f"triggers.{field} is no field" for field in set(trigger) - TRIGGER)
        if trigger.get("type") not in METADATA:
            yield f"there is no table for a trigger {trigger.get('type')}"
            continue
        required, optional = METADATA[trigger["type"]]
        metadata = trigger["metadata"]
        yield from (f"metadata.{key} is missing" for key in required - set(metadata))
        yield from (f"metadata.{key} is not read" for key in set(metadata) - required - optional)
        yield from (f"metadata.{key} is no string" for key, value in metadata.items() if not isinstance(value, str))


def autoscaler(spec):
    """What Kubernetes itself is to make of the ScaledObject's behaviour."""
    advanced = spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", {})
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "x"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": spec["scaleTargetRef"]["name"]},
            "minReplicas": 1,
            "maxReplicas": spec["maxReplicaCount"],
            "behavior": advanced.get("behavior", {}),
        },
    }


def main():
    manifests = [manifest for manifest in yaml.safe_load_all(sys.stdin) if manifest]
    problems = []
    for manifest in manifests:
        what = f"{manifest['kind']} {manifest['metadata']['name']}"
        if manifest["kind"] in MONITORING:
            problems += [f"{what}: {problem}" for problem in monitoring(manifest["kind"], manifest["spec"])]
            continue
        if manifest["kind"] == "ScaledObject":
            problems += [f"{what}: {problem}" for problem in scaled_object(manifest["spec"])]
            manifest = autoscaler(manifest["spec"])
        try:
            kubernetes_validate.validate(manifest, VERSION, strict=True)
        except kubernetes_validate.ValidationError as error:
            where = ".".join(str(part) for part in error.path)
            problems.append(f"{what}: {where}: {error.message}")
    print("\n".join(problems), file=sys.stderr)
    print(json.dumps(manifests))
    sys.exit(bool(problems))


main()
