"""The compose file and the Dockerfiles: held together here, since no engine runs in the tests.

The file was also validated against the compose specification's JSON schema; where Docker's
compose plugin is installed, the plugin checks it here.
"""

import ast
import importlib.util
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
SERVICES = {"gateway": 8001, "chat_worker": 50051, "embed_worker": 50052}
WORKERS = ("chat_worker", "embed_worker")
BESIDE = ("redis", "prometheus", "grafana", "tls")
IMAGES = (*SERVICES, "all_in_one")
MODEL_LIBRARIES = re.compile(r"torch|llama|transformers|embed|openvino|\ball\b")
SERVICE_KEYS = {
    *(
        "build",
        "image",
        "ports",
        "environment",
        "env_file",
        "depends_on",
        "healthcheck",
        "networks",
    ),
    *("stop_grace_period", "mem_limit", "volumes", "init", "restart", "read_only", "tmpfs"),
    *("cap_drop", "security_opt", "pids_limit", "logging", "cpus"),
    *("profiles", "command", "secrets", "user", "cap_add"),
}

HAS_COMPOSE = (
    shutil.which("docker") is not None
    and subprocess.run(
        ["docker", "compose", "version"], capture_output=True, check=False
    ).returncode
    == 0
)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


def dockerfile(service: str) -> str:
    return (ROOT / "deploy" / f"{service}.Dockerfile").read_text()


def instructions(service: str, name: str) -> list[str]:
    joined = dockerfile(service).replace("\\\n", " ")
    return re.findall(rf"^{name} (.+)$", joined, re.MULTILINE)


def copied(service: str) -> list[str]:
    """The paths that an image takes from the repository."""
    own = [line for line in instructions(service, "COPY") if not line.startswith("--from")]
    return [path for line in own for path in line.split()[:-1]]


def test_the_stack_has_the_three_services_and_only_known_keys(compose: dict[str, Any]) -> None:
    profiles = {name: service.get("profiles") for name, service in compose["services"].items()}
    assert {name for name, found in profiles.items() if found is None} == set(SERVICES)
    assert {name: found for name, found in profiles.items() if found is not None} == {
        "redis": ["redis"],
        "prometheus": ["monitoring"],
        "grafana": ["monitoring"],
        "tls": ["tls"],
    }
    for service in compose["services"].values():
        assert set(service) <= SERVICE_KEYS


@pytest.mark.parametrize("name", BESIDE)
def test_what_runs_beside_is_bounded_too_and_sees_no_secret_of_ours(
    compose: dict[str, Any], name: str
) -> None:
    service = compose["services"][name]
    # Compose itself writes the key into Prometheus' container.
    assert service["read_only"] is (name != "prometheus")
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "pids_limit", "logging"} <= set(service)
    assert "env_file" not in service
    # Another tag, or a digest, by .env.
    assert re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[\w./-]+:v?\d[\w.-]*\}", service["image"])
    for volume in service["volumes"]:
        source, _, rest = volume.partition(":")
        if source.startswith("."):
            assert (ROOT / source).exists()
            assert rest.endswith(":ro,z")
        else:
            assert source in compose["volumes"]


def test_prometheus_asks_every_service_at_the_port_where_its_metrics_are(
    compose: dict[str, Any],
) -> None:
    path = ROOT / "deploy/monitoring/prometheus-compose.yml"
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["scrape_configs"]
    asked = {
        name: found["port"]
        for job in jobs
        for found in job["dns_sd_configs"]
        for name in found["names"]
    }
    environment = {name: compose["services"][name]["environment"] for name in SERVICES}
    assert asked == {
        "gateway": SERVICES["gateway"],
        "chat_worker": int(environment["chat_worker"]["CHAT_WORKER_METRICS_PORT"]),
        "embed_worker": int(environment["embed_worker"]["EMBED_WORKER_METRICS_PORT"]),
    }
    (key,) = compose["services"]["prometheus"]["secrets"]
    assert jobs[0]["authorization"]["credentials_file"] == f"/run/secrets/{key}"
    assert compose["secrets"][key] == {"environment": "MONITORING_API_KEY"}


def test_the_gateway_trusts_the_container_with_tls_by_a_name_that_only_that_one_has(
    compose: dict[str, Any],
) -> None:
    (alias,) = compose["services"]["tls"]["networks"]["clients"]["aliases"]
    trusted = compose["services"]["gateway"]["environment"]["TRUSTED_PROXIES"]
    assert trusted == f"${{TRUSTED_PROXIES:-{alias}}}"
    # No resolver of the host can know it.
    assert alias.endswith(".internal")


def test_gpus_change_what_is_built_and_nothing_that_does_not_exist(compose: dict[str, Any]) -> None:
    path = ROOT / "deploy/compose.gpu.yml"
    changed = yaml.safe_load(path.read_text(encoding="utf-8"))["services"]
    assert set(changed) == set(WORKERS)
    for name, service in changed.items():
        assert set(service["build"]["args"]) <= set(compose["services"][name]["build"]["args"])
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


@pytest.mark.parametrize(
    ("name", "variables", "folder"),
    [
        ("https", ["GATEWAY_TLS_CERT", "GATEWAY_TLS_KEY"], "./certificates"),
        ("socket", ["GATEWAY_SOCKET"], "./socket"),
    ],
)
def test_the_gateway_finds_its_certificate_and_socket_in_a_folder_of_the_host(
    name: str, variables: list[str], folder: str
) -> None:
    text = (ROOT / f"deploy/compose.{name}.yml").read_text(encoding="utf-8")
    gateway = yaml.safe_load(text.replace("!reset", ""))["services"]["gateway"]
    (volume,) = gateway["volumes"]
    source, inside = volume.split(":")[:2]
    assert source == folder
    for variable in variables:
        assert Path(gateway["environment"][variable]).parent == Path(inside)


@pytest.mark.skipif(not HAS_COMPOSE, reason="Docker's compose plugin is not installed")
@pytest.mark.parametrize("name", ["gpu", "https", "socket", "secrets"])
def test_docker_accepts_each_file_that_is_added_to_the_first(name: str, tmp_path: Path) -> None:
    given = tmp_path / "env"
    given.write_text("API_KEYS=k\nWORKER_TOKEN=t\n")
    files = ["--file", "docker-compose.yml", "--file", f"deploy/compose.{name}.yml"]
    command = ["docker", "compose", "--env-file", str(given), *files, "config", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not HAS_COMPOSE, reason="Docker's compose plugin is not installed")
def test_dockers_own_check_accepts_the_file_and_demands_the_keys() -> None:
    command = ["docker", "compose", "--env-file", "/dev/null", "config", "--quiet"]
    missing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert missing.returncode != 0
    assert "API_KEYS" in missing.stderr + missing.stdout or "WORKER_TOKEN" in missing.stderr


def test_nothing_starts_without_keys_and_token(compose: dict[str, Any]) -> None:
    # Empty ones are for secrets by file; the services refuse to start without either.
    assert compose["services"]["gateway"]["environment"]["API_KEYS"].startswith("${API_KEYS?")
    for name in SERVICES:
        service = compose["services"][name]
        assert service["environment"]["WORKER_TOKEN"].startswith("${WORKER_TOKEN?")


@pytest.mark.parametrize("worker", WORKERS)
def test_workers_can_be_scaled_and_are_reached_only_from_inside(
    compose: dict[str, Any], worker: str
) -> None:
    service = compose["services"][worker]
    assert not {"ports", "container_name"} & set(service)
    assert service["networks"] == ["workers"]
    assert compose["networks"]["workers"] == {"internal": True}
    assert service["environment"]["WORKER_TRUSTED_NETWORK"] == "1"
    # What comes from the host cannot be changed; a named volume is the workers' own.
    bound = [volume for volume in service["volumes"] if not isinstance(volume, str)]
    assert [volume["read_only"] for volume in bound] == [True]
    named = [volume.partition(":")[0] for volume in service["volumes"] if volume not in bound]
    assert set(named) <= set(compose["volumes"])


def test_the_gateway_knows_its_workers_by_their_service_names(compose: dict[str, Any]) -> None:
    environment = compose["services"]["gateway"]["environment"]
    for worker in WORKERS:
        assert environment[f"{worker.upper()}S"] == f"{worker}:{SERVICES[worker]}"
        condition = compose["services"]["gateway"]["depends_on"][worker]["condition"]
        assert condition == "service_healthy"
        assert compose["services"][worker]["environment"]["WORKER_HOST"] == "0.0.0.0"


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_bounded_read_only_and_without_privileges(
    compose: dict[str, Any], name: str
) -> None:
    service = compose["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "pids_limit", "stop_grace_period"} <= set(service)


@pytest.mark.parametrize("name", SERVICES)
def test_each_image_is_built_in_two_stages_and_runs_as_nobody_special(
    compose: dict[str, Any], name: str
) -> None:
    build = compose["services"][name]["build"]
    assert (build["context"], build["dockerfile"]) == (".", f"deploy/{name}.Dockerfile")
    own = {line.replace('"', "") for line in instructions(name, "ARG")}
    for arg, value in build.get("args", {}).items():
        assert f"{arg}={value.removeprefix(f'${{{arg}:-').removesuffix('}')}" in own
    assert len(instructions(name, "FROM")) == 2
    assert instructions(name, "USER") == ["10001"]


@pytest.mark.parametrize("name", IMAGES)
def test_images_say_what_they_are_and_may_be_built_on_a_pinned_base(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (line,) = instructions(name, "LABEL")
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]+)"', line))
    assert set(labels) == {"title", "description", "version", "licenses"}
    assert (labels["version"], labels["licenses"]) == (project["version"], project["license"])
    assert instructions(name, "FROM") == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"]


@pytest.mark.parametrize("name", SERVICES)
def test_everything_an_image_copies_exists_and_reaches_the_builder(name: str) -> None:
    sent = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")
    }
    for path in copied(name):
        assert (ROOT / path).exists(), path
        assert path in sent, f"{path} is left out by .dockerignore"


@pytest.mark.parametrize("name", SERVICES)
def test_entry_point_and_probe_are_modules_of_the_image(compose: dict[str, Any], name: str) -> None:
    (entry,) = instructions(name, "ENTRYPOINT")
    (health,) = instructions(name, "HEALTHCHECK")
    probe = ast.literal_eval(health[health.index("[") :])
    assert ast.literal_eval(entry) == ["python", "-m", name]
    assert ["CMD", *probe] == compose["services"][name]["healthcheck"]["test"]
    assert probe[-1] == str(SERVICES[name])
    for module in (name, probe[probe.index("-m") + 1]):
        assert module.split(".")[0] in copied(name)
        assert importlib.util.find_spec(module) is not None


def test_the_gateways_image_has_no_model_library() -> None:
    setups = re.findall(r"run\.py setup (.+)", dockerfile("gateway"))
    assert setups == ["gateway redis guard"]
    assert not any(MODEL_LIBRARIES.search(path) for path in copied("gateway"))


@pytest.mark.parametrize("name", SERVICES)
def test_images_copy_what_their_service_imports(name: str) -> None:
    packages = {"common", "protos", "gateway", "worker_runtime", "chat_worker", "embed_worker"}
    code = "\n".join(path.read_text() for path in (ROOT / name).rglob("*.py"))
    imported = set(re.findall(r"^\s*(?:from|import) (\w+)", code, re.MULTILINE)) & packages
    if "worker_runtime" in imported:
        runtime = (path.read_text() for path in (ROOT / "worker_runtime").rglob("*.py"))
        imported |= set(re.findall(r"^from (\w+)", "\n".join(runtime), re.MULTILINE)) & packages
    assert imported <= set(copied(name))
