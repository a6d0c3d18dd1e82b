"""Where settings come from, and how wrong ones are refused: with a name, a place, and no secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from roost.errors import ConfigError
from roost.settings import DEFAULT_URL, TLS, Credentials, Settings, resolve
from roost.settings.address import parse_server

VARIABLES = (
    *("NATS_URL", "NATS_CONTEXT", "NATS_USER", "NATS_PASSWORD", "NATS_TOKEN", "NATS_CREDS", "NATS_NKEY"),
    *("NATS_CA", "NATS_CERT", "NATS_KEY", "ROOST_NAMESPACE", "ROOST_INBOX_PREFIX", "ROOST_INSECURE"),
    *("ROOST_TLS_FIRST", "ROOST_PASSWORD_FILE", "ROOST_TOKEN_FILE"),
)
Environment = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "nats" / "context"
    folder.mkdir(parents=True)
    return folder


def context(folder: Path, name: str = "c", mode: int = 0o600, **fields: Any) -> Path:
    file = folder / f"{name}.json"
    file.write_text(json.dumps(fields))
    file.chmod(mode)
    return file


# Order ------------------------------------------------------------------------------------------


def test_each_place_comes_before_the_next(contexts: Path, monkeypatch: Environment) -> None:
    found = [resolve()]
    context(contexts, "selected", url="nats://selected:1")
    (contexts.parent / "context.txt").write_text("selected\n")
    found.append(resolve())
    context(contexts, "named", url="nats://named:1")
    monkeypatch.setenv("NATS_CONTEXT", "named")
    found.append(resolve())
    monkeypatch.setenv("NATS_URL", "nats://variable:1")
    found.append(resolve())
    context(contexts, "given", url="nats://given:1")
    found.append(resolve(context="given"))
    found.append(resolve("nats://argument:1, tls://other"))
    assert [settings.servers for settings in found] == [
        (DEFAULT_URL,),
        ("nats://selected:1",),
        ("nats://named:1",),
        ("nats://variable:1",),
        ("nats://given:1",),
        ("nats://argument:1", "tls://other"),
    ]
    assert [settings.source for settings in found] == [
        "the default",
        "nats context selected (selected)",
        "nats context named (NATS_CONTEXT)",
        "NATS_URL",
        "nats context given (given)",
        "the url given",
    ]
    with pytest.raises(ConfigError, match="a url or a context, not both"):
        resolve("nats://x", context="given")


def test_context_is_taken_whole(contexts: Path, monkeypatch: Environment) -> None:
    context(contexts, creds="~/a.creds", ca="ca.pem", tls_first=True, inbox_prefix="_INBOX_c")
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("NATS_USER", "eve")
    monkeypatch.setenv("NATS_PASSWORD", "pw")
    monkeypatch.setenv("NATS_CA", "other.pem")
    monkeypatch.setenv("ROOST_INBOX_PREFIX", "_INBOX_eve")
    found = resolve(context="c")
    assert found.servers == (DEFAULT_URL,)
    assert found.credentials == Credentials(creds_file="/home/ann/a.creds")
    assert found.tls == TLS(ca_file="ca.pem", handshake_first=True)
    assert found.inbox_prefix == "_INBOX_c"
    own = resolve(context="c", credentials=Credentials(token="t"), tls=TLS(), inbox_prefix="_INBOX_x")
    assert (str(own.credentials), own.tls, own.inbox_prefix) == ("token", TLS(), "_INBOX_x")
    context(contexts, "bare", url="nats://bare")
    assert resolve(context="bare").credentials is None


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"NATS_CREDS": "a.creds"}, Credentials(creds_file="a.creds")),
        ({"NATS_NKEY": "a.nk"}, Credentials(nkey_file="a.nk")),
        ({"NATS_USER": "a", "NATS_PASSWORD": "b"}, Credentials(user="a", password="b")),
        ({"NATS_USER": "a", "ROOST_PASSWORD_FILE": "f"}, Credentials(user="a", password_file="f")),
        ({"NATS_USER": "tok"}, Credentials(token="tok")),
        ({"NATS_TOKEN": "tok"}, Credentials(token="tok")),
        ({"ROOST_TOKEN_FILE": "f"}, Credentials(token_file="f")),
        ({"NATS_CREDS": ""}, None),
    ],
)
def test_environment_gives_credentials(
    environment: dict[str, str], expected: Credentials | None, monkeypatch: Environment
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert resolve().credentials == expected
    assert resolve("tls://x").credentials == expected
    assert resolve("nats://u:p@x").credentials is None  # those of the URL
    assert resolve(credentials=Credentials(token="mine")).credentials == Credentials(token="mine")


def test_environment_gives_tls_and_switches(monkeypatch: Environment) -> None:
    for name, value in [("NATS_CA", "ca"), ("NATS_CERT", "cert"), ("NATS_KEY", "key")]:
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ROOST_TLS_FIRST", "yes")
    monkeypatch.setenv("ROOST_INSECURE", "1")
    found = resolve()
    assert found.tls == TLS(ca_file="ca", cert_file="cert", key_file="key", handshake_first=True)
    assert found.insecure
    assert not resolve(insecure=False).insecure
    monkeypatch.setenv("ROOST_INSECURE", "perhaps")
    with pytest.raises(ConfigError, match="ROOST_INSECURE is 'perhaps'; use 1 or 0"):
        resolve()


def test_two_kinds_of_credentials_in_the_environment_are_an_error_that_names_them(
    monkeypatch: Environment,
) -> None:
    monkeypatch.setenv("NATS_CREDS", "a.creds")
    monkeypatch.setenv("NATS_TOKEN", "hush")
    with pytest.raises(ConfigError, match=r"one of user.*given: token, creds_file.*NATS_TOKEN") as refused:
        resolve()
    assert "hush" not in str(refused.value)
    monkeypatch.delenv("NATS_TOKEN")
    monkeypatch.setenv("NATS_URL", "nats://u:hush@x")
    with pytest.raises(ConfigError, match="NATS_URL has a user in it, and the environment") as refused:
        resolve()
    assert "hush" not in str(refused.value)


# Contexts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("socks_proxy", "socks5://x"),
        ("nsc", "nsc://op/acc/user"),
        ("jetstream_domain", "hub"),
        ("jetstream_api_prefix", "$JS.x"),
        ("jetstream_event_prefix", "x"),
        ("user_jwt", "ey"),
        ("windows_cert_store", "user"),
        ("not_yet_invented", {"a": 1}),
        ("creds", "op://vault/hush"),
        ("password", "env://hush"),
        ("url", 5),
        ("tls_first", "yes"),
    ],
)
def test_field_that_is_not_supported_is_named_with_its_file(field: str, value: Any, contexts: Path) -> None:
    file = context(contexts, url="nats://x") if field != "url" else contexts / "c.json"
    file.write_text(json.dumps({"url": "nats://x", field: value}))
    file.chmod(0o600)
    with pytest.raises(ConfigError, match=rf"{file}\): the field '?{field}'? ") as refused:
        resolve(context="c")
    assert "hush" not in str(refused.value)


def test_field_that_is_empty_is_no_error(contexts: Path) -> None:
    context(
        contexts, url="nats://x", nsc="", socks_proxy="", jetstream_domain="", tls_first=False, other=None
    )
    assert resolve(context="c").servers == ("nats://x",)


def test_context_that_is_not_there_or_not_readable_is_named(contexts: Path, monkeypatch: Environment) -> None:
    with pytest.raises(ConfigError, match=r"nats context gone \(.*gone\.json\) does not exist"):
        resolve(context="gone")
    (contexts.parent / "context.txt").write_text("gone")
    with pytest.raises(ConfigError, match=r"gone\.json\) does not exist"):
        resolve()
    for text in ("", "[1]", '{"password": "hush"', "\xff"):
        file = contexts / "c.json"
        file.write_bytes(text.encode("latin-1"))
        with pytest.raises(ConfigError, match=r"c\.json\) is no") as refused:
            resolve(context="c")
        assert "hush" not in str(refused.value)
    for name in ("../c", "a/b", "", "a\nb"):
        with pytest.raises(ConfigError, match="no name of a nats context"):
            resolve(context=name)


@pytest.mark.parametrize(
    "fields", [{"password": "hush", "user": "a"}, {"token": "hush"}, {"url": "a:hush@x"}]
)
def test_context_with_a_secret_in_it_must_be_for_its_owner_alone(
    fields: dict[str, str], contexts: Path
) -> None:
    context(contexts, mode=0o644, **fields)
    with pytest.raises(ConfigError, match=r"c\.json' has mode 0644.*chmod 600"):
        resolve(context="c")
    context(contexts, "free", mode=0o644, url="nats://x", creds="a.creds")
    assert resolve(context="free").servers == ("nats://x",)


def test_context_with_half_a_login_is_an_error_that_names_the_file(contexts: Path) -> None:
    context(contexts, user="ann")
    with pytest.raises(ConfigError, match=r"c\.json\): credentials with user lack password"):
        resolve(context="c")
    context(contexts, key="k.pem")
    with pytest.raises(ConfigError, match=r"c\.json\): TLS with key_file lacks cert_file"):
        resolve(context="c")


# Addresses --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("host", "nats://host:4222"),
        ("host:5", "nats://host:5"),
        ("tls://host/", "tls://host:4222"),
        ("nats://[::1]:7", "nats://[::1]:7"),
        ("tls://[::1]", "tls://[::1]:4222"),
        ("nats://a:b@host", "nats://***@host:4222"),
        ("a:b/c@d#e?f:g@host:1", "nats://***@host:1"),
        ("tok@host", "nats://***@host:4222"),
    ],
)
def test_address_is_read_and_shown_without_its_user(text: str, shown: str) -> None:
    server = parse_server(text)
    assert server.shown == shown
    assert parse_server(server.url) == server


@pytest.mark.parametrize(
    "text",
    [
        "nats://hush",
        "nats://ann:hush",
        "nats://ann:hu sh@host",
        "nats://ann:hush@",
        "nats://ann:hush@host:99999",
        "nats://ann:hush@host:0",
        "nats://ann:hush@[::1",
        "nats://ann:hush@host/x",
        "nats://ann:hush@host:²",
        "hush://host",
        "http://hush@host",
        "nats://ann:hu\x00sh@host",
    ][1:],
)
def test_wrong_address_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ConfigError, match="server URL") as refused:
        resolve(text)
    assert "hu" not in str(refused.value).replace("hush://", "")
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("text", ["", " , "])
def test_no_address_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="no server URL"):
        resolve(text)


# Values -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"user": "a"},
        {"password": "hush"},
        {"user": "a", "password": ""},
        {"user": "a", "password": "hush", "password_file": "f"},
        {"user": "a", "password": "hush", "token": "hush"},
        {"nkey": "hush", "creds_file": "f"},
        {"creds": "hush", "creds_file": "f"},
        {"token": 5},
    ],
)
def test_credentials_are_one_kind_and_whole(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="credentials") as refused:
        Credentials(**given)
    assert "hush" not in str(refused.value)


def test_settings_show_no_secret() -> None:
    settings = Settings(
        servers=("nats://ann:hush@host", "tls://hush2@other"), options={"password": "hush", "token": "hush"}
    )
    assert "hush" not in repr(settings)
    assert "ann" not in repr(settings)
    assert settings.shown == "nats://***@host:4222, tls://***@other:4222"
    settings = Settings(servers=("host",), credentials=Credentials(user="ann", password="hush"))
    assert "hush" not in repr(settings)
    assert "hush" not in repr(settings.credentials)


@pytest.mark.parametrize("prefix", ["INBOX", "_INBOX.", "_INBOX.*", "_INBOX_a b", "_INBOX.>", "_INBOX..a"])
def test_inbox_prefix_that_cannot_work_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigError, match="inbox_prefix"):
        Settings(servers=("host",), inbox_prefix=prefix)


@pytest.mark.parametrize("timeout_s", [0, -1.0, float("nan")])
def test_time_to_connect_must_be_more_than_nothing(timeout_s: float) -> None:
    with pytest.raises(ConfigError, match="connect_timeout_s"):
        resolve(connect_timeout_s=timeout_s)


def test_url_with_a_user_and_credentials_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="keep one"):
        resolve("nats://a:b@x", credentials=Credentials(token="t"))


def test_tls_files_are_checked_with_their_names(tmp_path: Path) -> None:
    nothing = tmp_path / "empty.pem"
    nothing.write_text("")
    nothing.chmod(0o600)
    with pytest.raises(ConfigError, match=r"ca_file .*empty\.pem.* has no certificate"):
        TLS(ca_file=nothing).context()
    with pytest.raises(ConfigError, match=r"ca_file .*gone\.pem.* cannot be read: No such file"):
        TLS(ca_file=tmp_path / "gone.pem").context()
    with pytest.raises(ConfigError, match=r"cert_file .*empty\.pem"):
        TLS(cert_file=nothing).context()
    with pytest.raises(ConfigError, match=r"gone\.pem.* cannot be read"):
        TLS(cert_file=nothing, key_file=tmp_path / "gone.pem").context()
