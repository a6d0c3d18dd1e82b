"""Each command as somebody types it: a process of its own, in an empty folder."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cli_kit import roost_command

import roost

COMMANDS = [
    "demo",
    "up",
    "server",
    "provision",
    "status",
    "dead ls",
    "dead show",
    "dead replay",
    "runs signal",
    "tasks ls",
    "tasks show",
    "timeline",
]
CONNECTED = [one for one in COMMANDS if one not in ("demo", "server")]


def run(
    *arguments: str, cwd: Path, env: dict[str, str] | None = None, input: str | None = None
) -> subprocess.CompletedProcess[str]:
    """``roost <arguments>`` in an empty folder, without a terminal."""
    clean = {key: value for key, value in os.environ.items() if key not in ("NATS_URL", "ROOST_NAMESPACE")}
    return roost_command(*arguments, cwd=cwd, env={**clean, **(env or {})}, input=input)


def test_the_version_is_the_packages(tmp_path: Path) -> None:
    answer = subprocess.run(
        [str(Path(sys.executable).with_name("roost")), "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, answer.stdout) == (0, f"roost {roost.__version__}\n")


def test_the_package_is_the_command_line_where_its_script_is_not_on_the_path(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "roost", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, answer.stdout) == (0, f"roost {roost.__version__}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str, tmp_path: Path) -> None:
    answer = run(*command.split(), "--help", cwd=tmp_path)
    assert answer.returncode == 0
    assert re.search(rf"Examples?:\n +roost {command}", answer.stdout)
    assert ("--url" in answer.stdout and "--namespace" in answer.stdout) == (command in CONNECTED)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuch"],
        ["up"],
        ["up", "shop.py"],
        ["up", "a:b", "--log-level", "loud"],
        ["dead", "ls", "a.*"],
        ["dead", "replay", "a", "b", "--edit", "-"],
        ["provision", "--max-bytes", "much"],
        ["timeline", "x", "--all"],
    ],
)
def test_wrong_usage_has_exit_code_2_and_a_hint(arguments: list[str], tmp_path: Path) -> None:
    answer = run(*arguments, cwd=tmp_path)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert "-h' for help" in answer.stderr
    assert "Traceback" not in answer.stderr


async def test_without_a_server_a_command_fails_with_one_sentence(tmp_path: Path) -> None:
    commands = ("dead ls", "dead show x", "dead replay x", "tasks show x", "timeline --all", "provision")
    answers = await asyncio.gather(
        *(
            asyncio.to_thread(run, *command.split(), "--url", "nats://127.0.0.1:1", cwd=tmp_path)
            for command in commands
        )
    )
    for answer in answers:
        assert (answer.returncode, answer.stdout) == (1, "")
        assert answer.stderr.startswith("roost: cannot connect to nats://127.0.0.1:1: ")
        assert answer.stderr.count("\n") == 1


def test_a_password_in_the_environment_is_not_printed(tmp_path: Path) -> None:
    answer = run("dead", "ls", cwd=tmp_path, env={"NATS_URL": "nats://ada:secret-7@127.0.0.1:1"})
    assert answer.returncode == 1
    assert "secret-7" not in answer.stderr


@pytest.mark.parametrize(
    ("command", "code", "printed"),
    [
        ("dead ls", 0, ""),
        ("dead ls --json", 0, "[]\n"),
        ("runs ls", 0, ""),
        ("tasks ls --json", 0, "[]\n"),
        ("dead show x", 1, ""),
        ("dead replay x", 1, ""),
        ("tasks show x", 1, ""),
        ("timeline x", 1, ""),
    ],
)
async def test_looking_into_a_namespace_that_is_not_there_says_so_and_makes_none(
    command: str, code: int, printed: str, nats_url: str, namespace: str, tmp_path: Path
) -> None:
    where = ("--url", nats_url, "--namespace", namespace)
    answer = await asyncio.to_thread(run, *command.split(), *where, cwd=tmp_path)
    assert (answer.returncode, answer.stdout) == (code, printed)
    assert answer.stderr.startswith(f"roost: nothing has been stored in namespace {namespace} on nats://")
    assert f"(there is no stream ROOST_{namespace}); if there should be something, compare" in answer.stderr
    async with roost.connect(nats_url, namespace=namespace) as bus:
        names = await bus.link.jetstream.call("STREAM.NAMES")
        assert f"ROOST_{namespace}" not in (names["streams"] or [])


def test_without_typer_the_command_line_says_what_to_install(tmp_path: Path) -> None:
    source = "import sys; sys.modules['typer'] = None; from roost.cli.main import main; main()"
    answer = subprocess.run(
        [sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 1
    assert answer.stderr == (
        "roost: the command line needs typer, which is not installed. Run: pip install 'roost[cli]'\n"
    )


async def test_ctrl_c_is_quiet(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never says a word
        silent.setblocking(False)
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("roost")),
            *("dead", "ls", "--url", f"nats://127.0.0.1:{silent.getsockname()[1]}"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        connection, _ = await asyncio.get_running_loop().sock_accept(silent)
        with connection:
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
    assert (process.returncode, out, err) == (130, b"", b"")


async def test_a_server_in_the_foreground_prints_its_url_first_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("roost")),
        *("server", "--port", "0", "--store", "kept"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    async with roost.connect(line.split()[0]) as bus:
        assert bus.link.client.is_connected
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == 0
    assert (tmp_path / "kept").is_dir()


def test_the_demo_refuses_a_folder_that_is_not_there(tmp_path: Path) -> None:
    answer = run("demo", "nowhere", cwd=tmp_path)
    assert answer.returncode in (1, 2)
    assert "nowhere" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_importing_roost_loads_nothing_of_the_command_line_or_the_web() -> None:
    """An import is part of every start: 0.1 s beyond nats and pydantic, most of it pydantic's own."""
    source = (
        "import sys, nats, pydantic; before = set(sys.modules); import roost; "
        "print('\\n'.join(sorted(set(sys.modules) - before)))"
    )
    answer = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    loaded = answer.stdout.split()
    own = [one for one in loaded if one.partition(".")[0] == "roost"]
    lazy = ("cli", "server", "runtime", "pictures", "demo", "testing", "dashboard", "interop")
    assert [one for one in own if one.startswith(tuple(f"roost.{part}" for part in lazy))] == []
    assert len(own) < 100
    others = {one.partition(".")[0] for one in loaded} - {"roost", "pydantic"}
    assert not others & {
        "typer",
        "rich",
        "textual",
        "starlette",
        "uvicorn",
        "jupyter",
        "IPython",
        "matplotlib",
    }
    assert len(others) < 15, others


def test_json_is_one_document(tmp_path: Path, nats_url: str, namespace: str) -> None:
    answer = run("provision", "--json", "--url", nats_url, "--namespace", namespace, cwd=tmp_path)
    assert answer.returncode == 0
    assert json.loads(answer.stdout)[0]["what"] == f"stream ROOST_{namespace}"
