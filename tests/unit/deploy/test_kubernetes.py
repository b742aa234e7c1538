"""The Helm chart and the manifests that it renders: valid, bounded, with settings that exist."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import msgspec
import pytest
import yaml
from pydantic_settings import BaseSettings

from chat_worker.remote.spec import RemoteModel
from chat_worker.settings import ChatSettings
from embed_worker.settings import EmbedSettings
from gateway.settings import GatewaySettings
from tests.unit.deploy.test_env_example import variables

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
CHART, RENDERED = DEPLOY / "helm" / "y26hkx", DEPLOY / "kubernetes" / "y26hkx.yaml"
# The oldest and the newest Kubernetes that the manifests are checked for.
VERSIONS = ("1.29", "1.36")
SETTINGS: dict[str, type[BaseSettings]] = {
    "gateway": GatewaySettings,
    "chat": ChatSettings,
    "embed": EmbedSettings,
}
NAMED = ["--set", "secrets.keys=y26hkx-keys,secrets.token=y26hkx-token"]
PROXY = """
gateway:
  proxy:
    name: nginx
    image: nginx:1.29
    ports: [{ name: http, containerPort: 8080 }]
    volumeMounts:
      - { name: socket, mountPath: /run/y26hkx }
      - { name: nginx, mountPath: /etc/nginx/conf.d }
  proxyVolumes: [{ name: nginx, configMap: { name: nginx } }]
"""
REMOTE = """
remote:
  models: |
    [[models]]
    id = "big"
    base_url = "http://vllm.inference:8000/v1"
    model = "Qwen/Qwen3-235B-A22B"
    api_key_name = "vllm"
  keysSecret: vllm
  egress:
    - to: [{ namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: inference } } }]
      ports: [{ port: 8000 }]
"""
VARIANTS = {
    "defaults": "",
    "keda": "scaleToZero: { enabled: true }",
    "mtls": "mutualTls: { enabled: true, issuer: { name: ours } }",
    "monitoring": "serviceMonitor: { enabled: true, keySecret: scraper }",
    "https": """
gateway: { tls: { secret: web } }
serviceMonitor: { enabled: true, keySecret: scraper, tlsConfig: { serverName: llm.example } }
""",
    "socket": PROXY,
    "models": "models: { existingClaim: models, pull: [a/b], hubTokenSecret: hub }",
    "new volume": "models: { newClaim: { size: 50Gi, storageClass: nfs }, pull: [a/b] }",
    "remote": REMOTE,
    "fixed": """
gateway: { autoscaling: { enabled: false }, replicas: 3 }
networkPolicies: { enabled: false }
settings: { LOG_LEVEL: debug }
""",
}
# Kinds whose schemas are not Kubernetes' own.
OF_OTHERS = ("keda.sh/", "cert-manager.io/", "monitoring.coreos.com/")
WITH_HELM = pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not installed")


def manifests(text: str) -> list[dict[str, Any]]:
    return [found for found in yaml.safe_load_all(text) if found]


def helm(*arguments: str) -> str:
    command = ["helm", "template", "y26hkx", str(CHART), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def is_gateway(manifest: dict[str, Any]) -> bool:
    found: bool = manifest["kind"] == "Deployment" and manifest["metadata"]["name"].endswith(
        "-gateway"
    )
    return found


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    found = (one for one in manifests(RENDERED.read_text()) if one["kind"] == kind)
    return {one["metadata"]["labels"]["app.kubernetes.io/component"]: one for one in found}


def pod(component: str) -> dict[str, Any]:
    found: dict[str, Any] = of_kind("Deployment")[component]["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_every_manifest(version: str) -> None:
    found = manifests(RENDERED.read_text())
    assert len(found) > len(SETTINGS)
    for manifest in found:
        kubernetes_validate.validate(manifest, version, strict=True)


@WITH_HELM
def test_the_manifests_are_what_the_chart_renders() -> None:
    assert helm(*NAMED) == RENDERED.read_text()


@WITH_HELM
@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_the_chart_is_valid_with_each_of_its_values(tmp_path: Path, values: str) -> None:
    given = tmp_path / "values.yaml"
    given.write_text(values)
    lint = ["helm", "lint", "--strict", str(CHART), *NAMED, "--values", str(given)]
    done = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for manifest in manifests(helm(*NAMED, "--values", str(given))):
        if not manifest["apiVersion"].startswith(OF_OTHERS):
            for version in VERSIONS:
                kubernetes_validate.validate(manifest, version, strict=True)


@WITH_HELM
@pytest.mark.parametrize(
    ("values", "probe", "has_port"),
    [
        ("", {"httpGet": {"path": "/health/live", "port": "http"}}, True),
        (
            "gateway: { tls: { secret: web } }",
            {"httpGet": {"path": "/health/live", "port": "http", "scheme": "HTTPS"}},
            True,
        ),
        (PROXY, {"exec": {"command": ["python", "-S", "-m", "cli.probe", "gateway"]}}, False),
    ],
    ids=["http", "https", "socket"],
)
def test_probes_ask_where_the_gateway_listens(
    tmp_path: Path, values: str, probe: dict[str, Any], has_port: bool
) -> None:
    given = tmp_path / "values.yaml"
    given.write_text(values)
    found = manifests(helm(*NAMED, "--values", str(given)))
    (spec,) = (one["spec"]["template"]["spec"] for one in found if is_gateway(one))
    gateway, *proxies = spec["containers"]
    assert ("ports" in gateway) is has_port
    for name in ("livenessProbe", "readinessProbe"):
        assert gateway[name].items() >= probe.items()
    # What the Service's port is called.
    named = [port["name"] for one in [gateway, *proxies] for port in one.get("ports", [])]
    assert named == ["http"]
    mounted = {mount["name"] for one in spec["containers"] for mount in one["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["volumes"]}
    given_names = {variable["name"] for variable in gateway["env"]}
    assert given_names <= {name for names in variables(GatewaySettings) for name in names} | {
        "API_KEYS_FILE",
        "WORKER_TOKEN_FILE",
    }


@WITH_HELM
def test_the_chart_makes_secrets_certificates_and_scalers_where_they_are_wanted() -> None:
    more = "scaleToZero.enabled=true,mutualTls.enabled=true,serviceMonitor.enabled=true"
    more += ",serviceMonitor.keySecret=scraper"
    found = manifests(helm(*NAMED, "--set", f"{more},models.existingClaim=models"))
    kinds = [one["kind"] for one in found]
    assert (kinds.count("ScaledObject"), kinds.count("Certificate")) == (2, 3)
    assert "ServiceMonitor" in kinds
    secrets = manifests(helm("--set", "secrets.apiKeyDigests={abc},secrets.workerToken=t"))
    assert sum(one["kind"] == "Secret" for one in secrets) == 2


@WITH_HELM
def test_a_job_downloads_the_models_that_are_named_into_the_volume_that_workers_only_read() -> None:
    wanted = "models.existingClaim=models,models.pull={hf.co/a/b:Q4_K_M,c/d}"
    found = manifests(helm(*NAMED, "--set", f"{wanted},models.hubTokenSecret=hf"))
    (job,) = (one for one in found if one["kind"] == "Job")
    for version in VERSIONS:
        kubernetes_validate.validate(job, version, strict=True)
    names = [one["command"][-1] for one in job["spec"]["template"]["spec"]["containers"]]
    assert names == ["hf.co/a/b:Q4_K_M", "c/d"]


@WITH_HELM
def test_models_are_in_a_volume_that_stays_or_in_an_image() -> None:
    found = manifests(helm(*NAMED, "--set", "models.newClaim.size=50Gi"))
    (claim,) = (one for one in found if one["kind"] == "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    wanted = {"persistentVolumeClaim": {"claimName": claim["metadata"]["name"], "readOnly": True}}
    assert models_of(found) == [wanted, wanted]
    found = manifests(helm(*NAMED, "--set", "models.image=registry.example/models:1"))
    assert models_of(found) == [{"image": {"reference": "registry.example/models:1"}}] * 2
    for manifest in found:
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


def models_of(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    volumes = [
        volume
        for one in found
        if one["kind"] == "Deployment"
        for volume in one["spec"]["template"]["spec"]["volumes"]
    ]
    return [
        {name: value for name, value in volume.items() if name != "name"}
        for volume in volumes
        if volume["name"] == "models"
    ]


@WITH_HELM
def test_only_chat_workers_know_and_reach_the_servers_of_remote_models(tmp_path: Path) -> None:
    given = tmp_path / "values.yaml"
    given.write_text(REMOTE)
    found = manifests(helm(*NAMED, "--values", str(given)))
    (config,) = (one for one in found if one["kind"] == "ConfigMap")
    tables = tomllib.loads(config["data"]["remote.toml"])["models"]
    (model,) = msgspec.convert(tables, list[RemoteModel])
    assert (model.id, model.base_url) == ("big", "http://vllm.inference:8000/v1")
    egress = {
        one["metadata"]["name"]: one["spec"].get("egress")
        for one in found
        if one["kind"] == "NetworkPolicy"
    }
    assert egress["y26hkx-embed"] is None
    names, servers = egress["y26hkx-chat"]
    assert {port["port"] for port in names["ports"]} == {53}
    assert servers["ports"] == [{"port": 8000}]


def test_gateways_and_chat_workers_agree_how_many_sequences_are_decoded_together() -> None:
    told = [
        {v["name"]: v.get("value") for v in pod(component)["containers"][0]["env"]}
        for component in ("gateway", "chat")
    ]
    assert told[0]["MAX_CONCURRENT_REQUESTS"] == told[1]["MAX_CONCURRENT_REQUESTS"]


@pytest.mark.parametrize("component", SETTINGS)
def test_each_pod_is_bounded_and_without_privileges(component: str) -> None:
    spec = pod(component)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    (container,) = spec["containers"]
    assert container["resources"]["limits"]["memory"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    mounted = {volume["name"] for volume in spec["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == mounted


@pytest.mark.parametrize("component", SETTINGS)
def test_each_variable_is_a_setting_of_its_service(component: str) -> None:
    (container,) = pod(component)["containers"]
    known = {name for names in variables(SETTINGS[component]) for name in names}
    known |= {f"{name}_FILE" for name in known}
    assert {variable["name"] for variable in container["env"]} <= known


@pytest.mark.parametrize("component", SETTINGS)
def test_images_are_those_of_the_dockerfiles(component: str) -> None:
    (container,) = pod(component)["containers"]
    name = re.fullmatch(r"y26hkx-([a-z-]+):latest", container["image"])
    assert name is not None
    assert (DEPLOY / f"{name[1].replace('-', '_')}.Dockerfile").is_file()


def test_workers_are_found_by_name_and_reached_by_gateways_only() -> None:
    services, policies = of_kind("Service"), of_kind("NetworkPolicy")
    variables_ = {v["name"]: v.get("value") for v in pod("gateway")["containers"][0]["env"]}
    for component in ("chat", "embed"):
        (port,) = services[component]["spec"]["ports"]
        assert services[component]["spec"]["clusterIP"] == "None"
        name = services[component]["metadata"]["name"]
        assert variables_[f"{component.upper()}_WORKERS"] == f"{name}:{port['port']}"
        (rule,) = policies[component]["spec"]["ingress"]
        labels = rule["from"][0]["podSelector"]["matchLabels"]
        assert labels["app.kubernetes.io/component"] == "gateway"
        assert policies[component]["spec"].get("egress") is None
