"""docs/connecting.md: what it shows runs, on servers as its sections need them; its names are those of the code."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from login_kit import TLS_FILES, Identity, Operator, configured, secret_file
from typer.testing import CliRunner

import roost
from roost.cli.app import app
from roost.settings import context

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "connecting.md").read_text(encoding="utf-8")
WALK = "A server with a login for each agent"
"""The section that tests/security runs."""
PARTS = re.split(r"^##? (.+)\n", PAGE.partition(f"## {WALK}")[0], flags=re.M)
SECTIONS = dict(zip(PARTS[1::2], PARTS[2::2], strict=True))


@dataclasses.dataclass(frozen=True)
class Place:
    """A folder with the files that the page names, and a port for each section's server."""

    folder: Path
    ports: dict[str, int]

    def here(self, code: str, section: str) -> str:
        port = self.ports.get(section, self.ports[""])
        code = code.replace("tls://b.example.com:4222", f"tls://127.0.0.1:{port}")
        first = 1 if section == "Several servers" else port  # where nobody listens
        code = code.replace("tls://nats.example.com:4222", f"tls://127.0.0.1:{first}")
        return re.sub(
            r"nats://(127\.0\.0\.1|10\.0\.0\.5):4222", f"nats://127.0.0.1:{self.ports['clear']}", code
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("page")
    me, operator = Identity(), Operator()
    for name, text in (
        ("password", "secret"),
        ("token", "tok-en"),
        ("ann.nk", me.seed),
        ("ann.creds", operator.creds(lasts_s=6000)),
    ):
        secret_file(folder / name, text)
    for name in ("ca.crt", "ann.crt"):
        shutil.copy(TLS_FILES / "cert.pem", folder / name)
    shutil.copy(TLS_FILES / "key.pem", folder / "ann.key")
    (folder / "ann.key").chmod(0o600)
    files = f'cert_file: "{folder}/ann.crt", key_file: "{folder}/ann.key", ca_file: "{folder}/ca.crt"'
    users = "authorization { users: [{ user: ann, password: secret }] }\n"
    configs = {
        "": f"tls {{ {files} }}\n{users}",
        "Token": f"tls {{ {files} }}\nauthorization {{ token: tok-en }}\n",
        "Nkey": f"tls {{ {files} }}\nauthorization {{ users: [{{ nkey: {me.public} }}] }}\n",
        "Creds": f"tls {{ {files} }}\n{operator.config}",
        "Contexts": f"tls {{ {files} }}\n{operator.config}",
        "Mutual TLS": f"tls {{ {files}, verify: true }}\n",
        "Handshake first": f"tls {{ {files}, handshake_first: true }}\n{users}",
        "clear": "",
    }
    with ExitStack() as servers:
        ports = {}
        for number, (name, config) in enumerate(configs.items()):
            store = folder / f"server{number}"
            store.mkdir()
            ports[name] = servers.enter_context(configured(store, config)).port
        yield Place(folder, ports)


@pytest.fixture(autouse=True)
def somebody(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder, with nothing set, on a system that trusts the authority."""
    for name in list(os.environ):
        if name.startswith(("NATS_", "ROOST_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place.folder / "config"))
    monkeypatch.setenv("SSL_CERT_FILE", str(place.folder / "ca.crt"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    "section", [name for name, text in SECTIONS.items() if re.search(r"```(py|sh)", text)]
)
def test_what_a_section_shows_runs(
    section: str, place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind, code in re.findall(r"```(sh|python)\n(.*?)```", SECTIONS[section], re.S):
        code = place.here(code, section)
        assert ".example" not in code
        if kind == "python":
            names: dict[str, Any] = {"roost": roost, "Path": Path}
            exec("async def program():\n" + textwrap.indent(code, "    "), names)
            asyncio.run(names["program"]())
            assert capsys.readouterr().out.strip() not in ("", "None")
        elif section in ("Connecting", "Contexts"):
            done = subprocess.run(["sh", "-euc", code], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert "connection  TLSv1.3, " in done.stdout
        else:  # in this process, which is quicker
            *exported, words = map(shlex.split, code.splitlines())
            with monkeypatch.context() as environment:
                for name, _, value in (one.partition("=") for line in exported for one in line[1:]):
                    environment.setenv(name, value)
                assert words.pop(0) == "roost"
                done_here = CliRunner().invoke(app, words)
            assert done_here.exit_code == 0, done_here.output
            assert "connection " in done_here.stdout


def test_the_page_names_every_option_and_variable_and_no_other() -> None:
    source = "".join(one.read_text("utf-8") for one in sorted((ROOT / "src/roost/settings").glob("*.py")))
    variable = r"\b(?:NATS|ROOST)_[A-Z_]+\b"
    known = set(re.findall(f'"({variable})"', source))
    assert set(re.findall(variable, "".join(SECTIONS.values()))) == known
    words = set(re.findall(r"\w+", "".join(SECTIONS.values())))
    options = {
        *(one.name for one in dataclasses.fields(roost.Credentials)),
        *(one.name for one in dataclasses.fields(roost.TLS)),
        *inspect.signature(roost.connect).parameters,
        *context._TEXTS,
    }
    assert options - words == set()


def test_the_page_names_every_event_of_the_connection() -> None:
    told = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", SECTIONS["Events of the connection"], re.M)
    named = {word for cell in told for word in re.findall(r"\w+", cell)}
    assert inspect.getdoc(roost.Bus.watch)
    assert named == set(re.findall(r"``(\w+)``", roost.Bus.watch.__doc__ or ""))
