"""The files in `deploy/` are what their tools accept, and agree with each other and with the program."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from roost.cli.app import app
from roost.runtime.keeper import PATIENCE_S
from roost.runtime.lifeline import MARGIN_S
from roost.server import find_server

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
AGENTS = DEPLOY / "kubernetes" / "agents.yaml"
VALUES = DEPLOY / "kubernetes" / "nats-values.yaml"
CHART = Path(__file__).with_name("nats-chart-2.14.2.txt")
PROGRAMS = Path(sys.executable).parent
NAMES = ("nats-0", "nats-1", "nats-2")


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def manifests() -> dict[str, dict[str, Any]]:
    """The Kubernetes objects by kind and name."""
    found = yaml.safe_load_all(AGENTS.read_text(encoding="utf-8"))
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in found}


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = manifests()["Deployment/newsletter"]["spec"]["template"]["spec"]
    return spec


def image_command() -> list[str]:
    """What the image runs: the last CMD of the Dockerfile."""
    found = re.findall(r"^CMD (\[.*\])$", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    command: list[str] = json.loads(found[-1])
    return command


def grace_in(command: list[str]) -> float:
    return float(command[command.index("--grace") + 1])


# --- what their tools say ---------------------------------------------------------------------------


def test_the_compose_file_is_valid() -> None:
    check(PROGRAMS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


def test_the_manifests_are_valid_on_old_and_new_kubernetes() -> None:
    for version in ("1.29", "1.34"):
        check(PROGRAMS / "kubernetes-validate", "--strict", "-k", version, AGENTS)


def test_the_values_are_the_charts() -> None:
    """The chart ignores what it does not know: a misspelt value would be a decision that nobody carries out."""
    known = CHART.read_text(encoding="utf-8").split()
    free = tuple(one.removesuffix("*") for one in known if one.endswith(".*"))
    unknown = [one for one in leaves(loaded(VALUES)) if one not in known and not one.startswith(free)]
    assert unknown == []


def test_the_chart_makes_a_configuration_that_the_server_accepts(tmp_path: Path) -> None:
    """As the chart does it: its own keys, ours merged into them, `<< >>` without quotes, the rest as JSON."""
    config = loaded(VALUES)["config"]
    conf = {
        "server_name": "nats-0",
        "port": 4222,
        "http_port": config["monitor"]["port"],
        "jetstream": {
            "store_dir": "/data",
            "max_file_store": f"<< {config['jetstream']['fileStore']['maxSize']} >>",
            "max_memory_store": f"<< {config['jetstream']['memoryStore']['maxSize']} >>",
            **config["jetstream"]["merge"],
        },
        "tls": dict(config["nats"]["tls"]["merge"]),
        **config["merge"],
    }
    conf["tls"] |= {"cert_file": str(tmp_path / "tls/tls.crt"), "key_file": str(tmp_path / "tls/tls.key")}
    check(DEPLOY / "make-certificates.sh", tmp_path / "tls", "localhost")
    file = tmp_path / "nats.conf"
    file.write_text(re.sub(r'"<< (\S+) >>"', r"\1", json.dumps(conf)))
    check(find_server(), "-t", "-c", file, passwords="p")


def test_the_servers_of_compose_start_on_what_the_program_prints() -> None:
    routes = [word for name in NAMES for word in ("--route", f"{name}:6222")]
    printed = CliRunner().invoke(app, ["server", "config", "--name", NAMES[0], *routes])
    assert (DEPLOY / "nats-server.conf").read_text(encoding="utf-8") == printed.stdout


# --- what they agree on -----------------------------------------------------------------------------


def test_each_server_has_a_name_and_a_store_of_its_own() -> None:
    services = loaded(COMPOSE)["services"]
    for name in NAMES:
        assert services[name]["command"][-2:] == ["--name", name]
        assert [one["source"] for one in services[name]["volumes"]] == [name]


def test_agents_are_given_more_time_to_end_than_they_take() -> None:
    takes_s = grace_in(image_command()) + MARGIN_S + PATIENCE_S
    assert float(loaded(COMPOSE)["services"]["agents"]["stop_grace_period"].removesuffix("s")) > takes_s + 5
    takes_s = grace_in(pod()["containers"][0]["args"]) + MARGIN_S + PATIENCE_S
    assert pod()["terminationGracePeriodSeconds"] > takes_s + 5


def test_no_file_has_a_secret_in_it() -> None:
    for file in sorted(DEPLOY.rglob("*")):
        if not file.is_file() or file.is_relative_to(DEPLOY / "tls"):
            continue
        for line in file.read_text(encoding="utf-8").splitlines():
            found = re.search(r"(?i)password\"?\s*[:=]\s*(\S.*)", line)
            allowed = r"\$|\"?<< ?\$|/run/|p\$\(|p%s|\{$|\{file|nats"
            assert found is None or re.match(allowed, found[1]), f"{file.name}: {line}"


def test_nobody_runs_as_root_or_writes_to_the_image() -> None:
    assert pod()["securityContext"]["runAsNonRoot"] is True
    container = pod()["containers"][0]["securityContext"]
    assert container["readOnlyRootFilesystem"] is True
    assert container["allowPrivilegeEscalation"] is False
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert "USER 10001" in (DEPLOY / "Dockerfile").read_text(encoding="utf-8")


def test_the_policies_are_about_pods_that_there_are() -> None:
    found = manifests()
    labels = found["Deployment/newsletter"]["spec"]["template"]["metadata"]["labels"]
    for name in ("NetworkPolicy/agents", "PodDisruptionBudget/newsletter"):
        selector = (found[name]["spec"].get("podSelector") or found[name]["spec"]["selector"])["matchLabels"]
        assert selector.items() <= labels.items()
    assert found["NetworkPolicy/agents"]["spec"]["ingress"] == []
    ports = [
        port["port"] for rule in found["NetworkPolicy/nats"]["spec"]["ingress"] for port in rule["ports"]
    ]
    assert sorted(ports) == [4222, 6222]


@pytest.mark.parametrize("arguments", [["tls"], []])
def test_the_script_for_certificates_says_how_it_is_used(arguments: list[str]) -> None:
    refused = subprocess.run(
        [str(DEPLOY / "make-certificates.sh"), *arguments], capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert "DIRECTORY NAME..." in refused.stderr


def test_the_script_overwrites_no_authority(tmp_path: Path) -> None:
    script = [str(DEPLOY / "make-certificates.sh"), str(tmp_path / "tls"), "localhost", "127.0.0.1", "::1"]
    subprocess.run(script, check=True)
    made = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "tls").iterdir()}
    assert made == {"ca.crt": 0o644, "ca.key": 0o600, "tls.crt": 0o644, "tls.key": 0o600}
    again = subprocess.run(script, capture_output=True, text=True)
    assert again.returncode == 1
    assert "nothing was changed" in again.stderr


def check(*command: str | Path, passwords: str = "") -> None:
    """Runs a tool that has to be content."""
    given = {"ROOST_NATS_PASSWORD": passwords, "ROOST_NATS_SYSTEM_PASSWORD": passwords} if passwords else {}
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        env={**os.environ, **given},
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def leaves(tree: dict[str, Any], prefix: str = "") -> list[str]:
    """The dotted paths of all values that are no mappings."""
    found = []
    for key, value in tree.items():
        path = f"{prefix}{key}"
        found += leaves(value, f"{path}.") if isinstance(value, dict) and value else [path]
    return found
