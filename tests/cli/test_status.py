"""`roost status` as somebody types it: a card for people, JSON for programs, a sentence when it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_kit import roost_command


def run(
    *arguments: str, folder: Path, terminal: bool = False, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("NATS_", "ROOST_"))}
    environment = {**kept, "XDG_CONFIG_HOME": str(folder), "COLUMNS": "120", "TERM": "xterm", **(env or {})}
    if not terminal:
        return roost_command(*arguments, cwd=folder, env=environment)
    code = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
    return subprocess.run(
        [sys.executable, "-c", code, str(Path(sys.executable).with_name("roost")), *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_status_shows_the_server(nats_url: str, tmp_path: Path) -> None:
    answer = run("status", "--namespace", "farm", folder=tmp_path, env={"NATS_URL": nats_url})
    assert (answer.returncode, answer.stderr) == (0, "")
    assert any(url in answer.stdout for url in nats_url.split(",")), "the one that it is connected to"
    for part in ("from NATS_URL", "nats-server 2.", "JetStream", " ms", "no login", "farm"):
        assert part in answer.stdout


def test_status_is_a_card_on_a_terminal(nats_url: str, tmp_path: Path) -> None:
    answer = run("status", "--url", nats_url, folder=tmp_path, terminal=True)
    assert answer.returncode == 0
    assert "╭─" in answer.stdout
    assert " connected " in answer.stdout
    assert "round trip" in answer.stdout


def test_status_is_json_for_programs(nats_url: str, tmp_path: Path) -> None:
    answer = run("status", "--json", "--url", nats_url, folder=tmp_path)
    found = json.loads(answer.stdout)
    assert found["url"] in nats_url.split(",")
    assert found["jetstream"]["storage_limit_bytes"] == -1
    assert 0 < found["rtt_s"] < 5
    assert (found["tls"], found["expires"]) == ("", None)
    assert found["cluster"] == ("roost" if "," in nats_url else "")


def test_context_of_the_command_line_comes_before_the_environment(nats_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "nats" / "context"
    folder.mkdir(parents=True)
    (folder / "here.json").write_text(json.dumps({"url": nats_url}))
    answer = run("--context", "here", "status", folder=tmp_path, env={"NATS_URL": "nats://127.0.0.1:1"})
    assert answer.returncode == 0
    assert "from nats context here (--context)" in answer.stdout
    for after in (["status"], ["runs", "ls"]):
        wrong = run(*after, "--context", "here", folder=tmp_path, env={"COLUMNS": "400"})
        assert wrong.returncode == 2
        assert "it stands before the command, as in: roost --context prod status" in wrong.stderr
    both = run("--context", "here", "status", "--url", nats_url, folder=tmp_path)
    assert both.returncode == 2
    assert "--context has its own address" in both.stderr


@pytest.mark.parametrize("command", ["status", "runs ls", "dead ls", "up a:b"])
def test_password_on_the_command_line_is_refused_and_not_repeated(command: str, tmp_path: Path) -> None:
    answer = run(*command.split(), "--url", "nats://ann:hush@127.0.0.1:1", folder=tmp_path)
    assert answer.returncode == 2
    assert "list of" in answer.stderr
    assert "NATS_CREDS" in answer.stderr
    assert "hush" not in answer.stderr + answer.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (
            ["status", "--url", "nats://127.0.0.1:1", "--timeout", "0.3"],
            {},
            "cannot connect to nats://127.0.0.1:1",
        ),
        (["status"], {"NATS_URL": "nats://a:hush"}, "its port is no number"),
        (["status"], {"NATS_CONTEXT": "gone"}, "gone.json) does not exist"),
        (["--context", "gone", "status"], {}, "gone.json) does not exist"),
        (["status"], {"NATS_CREDS": "gone.creds"}, "creds_file 'gone.creds' cannot be read: No such file"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    arguments: list[str], environment: dict[str, str], said: str, tmp_path: Path
) -> None:
    answer = run(*arguments, folder=tmp_path, env=environment)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith("roost: ")
    assert answer.stderr.count("\n") == 1
    assert said in answer.stderr
    assert "hush" not in answer.stderr
