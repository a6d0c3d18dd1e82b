"""The agents of `deploy/` run as their files say, and the probes tell the truth about them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from test_files import DEPLOY, image_command, loaded, pod

from roost.server import LocalServer

ROOST = Path(sys.executable).with_name("roost")
EXAMPLES = DEPLOY.parent / "examples"  # the Dockerfile copies newsletter.py from there
HEALTH = "/run/roost/health"


def healthy(probe: list[str], file: Path) -> bool:
    """Whether the probe, asked for this file in place of the container's, is content."""
    command = [word.replace(HEALTH, str(file)) for word in probe]
    return subprocess.run(command, stderr=subprocess.DEVNULL, timeout=10).returncode == 0


def probes() -> dict[str, list[str]]:
    container = pod()["containers"][0]
    kind, command = loaded(DEPLOY / "compose.yaml")["services"]["agents"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    return {
        "alive": container["livenessProbe"]["exec"]["command"],
        "ready": container["readinessProbe"]["exec"]["command"],
        "compose": ["sh", "-c", command.replace("$$", "$")],
    }


@contextmanager
def agents(command: list[str], health: Path, url: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    words = [str(health) if word == HEALTH else word for word in command]
    with subprocess.Popen(
        [ROOST, *words],
        cwd=EXAMPLES,
        env={**os.environ, "NATS_URL": url, **environment},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(condition: Callable[[], Any], process: subprocess.Popen[str], within_s: float = 20) -> None:
    """Waits for what a file says: the end of the process is an event, a file that changes is none."""
    end = os.pidfd_open(process.pid)
    try:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            assert not select.select([end], [], [], 0.05)[0], process.communicate()[1]
    finally:
        os.close(end)


@pytest.mark.parametrize("where", ["image", "kubernetes"])
def test_they_get_ready_and_end_in_order(where: str, own_server: LocalServer, tmp_path: Path) -> None:
    command = image_command() if where == "image" else pod()["containers"][0]["args"]
    file = tmp_path / "health"
    with agents(command, file, own_server.url) as process:
        until(lambda: healthy(probes()["ready"], file), process)
        assert file.read_text() == "ready\n"
        assert all(healthy(probe, file) for probe in probes().values())
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_without_a_server_they_are_alive_and_not_ready(own_server: LocalServer, tmp_path: Path) -> None:
    own_server.kill()
    file = tmp_path / "health"
    with agents(image_command(), file, own_server.url) as process:
        until(lambda: file.exists() and "(waiting)" in file.read_text(), process)
        said = {name: healthy(probe, file) for name, probe in probes().items()}
        assert said == {"alive": True, "ready": False, "compose": False}
        assert file.read_text().startswith("not ready: ")
        own_server.restart()
        until(lambda: healthy(probes()["ready"], file), process)


def test_a_supervisor_that_is_frozen_is_not_alive(own_server: LocalServer, tmp_path: Path) -> None:
    file = tmp_path / "health"
    with agents(image_command(), file, own_server.url) as process:
        until(lambda: healthy(probes()["ready"], file), process)
        process.send_signal(signal.SIGSTOP)
        os.utime(file, (time.time() - 130,) * 2)  # as after two minutes
        assert not healthy(probes()["alive"], file)
        assert not healthy(probes()["compose"], file)
        process.send_signal(signal.SIGCONT)
        until(lambda: healthy(probes()["alive"], file), process)


def test_a_health_file_that_cannot_be_written_is_an_error_at_once(
    own_server: LocalServer, tmp_path: Path
) -> None:
    file = tmp_path / "no such folder" / "health"
    with agents(image_command(), file, own_server.url) as process:
        _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "the health file" in said
    assert "cannot be written" in said
