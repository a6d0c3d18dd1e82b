"""The pytest plugin: a real server for the session, and for each test a namespace that nobody else has.

Tests that share a namespace see each other's tasks, and pass or fail with their order. A server per test
would cost 50 ms each, so the server is shared and the names are not; only a test that kills or freezes its
server gets one of its own. Chance is a number that can be given back: a failed test that used `seed` prints
how to repeat it.

With `--roost-cluster` the shared server is a cluster of three, on which logs have three copies: `nats_url`
is then the URLs of all, separated by commas, as `roost.connect` takes them.

Fixtures: `nats_server`, `nats_url`, `namespace`, `own_server`, `own_cluster`, `seed`. The plugin runs no
`async def` tests; pytest-asyncio, anyio or a hook of your own does, and the fixtures work with each.
"""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Generator, Iterator

import pytest

from roost.server import LocalCluster, LocalServer
from roost.testing._streams import remove_streams

_SEED = pytest.StashKey[int]()
_SEED_LIMIT = 2**32


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("roost")
    group.addoption(
        "--roost-cluster",
        action="store_true",
        help="run the tests against a cluster of three servers (fixtures nats_server, nats_url and namespace)",
    )
    group.addoption(
        "--roost-seed",
        type=int,
        metavar="N",
        default=None,
        help="the number that the `seed` fixture gives (default: ROOST_SEED from the environment, else by chance)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SEED] = _chosen_seed(config)


def _chosen_seed(config: pytest.Config) -> int:
    given: int | None = config.getoption("--roost-seed")
    if given is not None:
        return given
    text = os.environ.get("ROOST_SEED", "")
    if not text:
        return random.SystemRandom().randrange(_SEED_LIMIT)
    try:
        return int(text)
    except ValueError:
        raise pytest.UsageError(f"ROOST_SEED is {text!r}; it must be a whole number, or not be set") from None


@pytest.fixture(scope="session")
def nats_server(pytestconfig: pytest.Config) -> Iterator[LocalServer | LocalCluster]:
    """A real nats-server for the whole session, or with --roost-cluster three.

    Do not kill or freeze it: take `own_server` for that, or `own_cluster`.
    """
    with LocalCluster() if pytestconfig.getoption("--roost-cluster") else LocalServer() as server:
        yield server


@pytest.fixture(scope="session")
def nats_url(nats_server: LocalServer | LocalCluster) -> str:
    """The URL of `nats_server`; with --roost-cluster three, separated by commas."""
    return nats_server.url


@pytest.fixture
def namespace(nats_url: str) -> Iterator[str]:
    """A namespace that no other test has, such as `t3f9a1c2`; its streams are removed after the test."""
    name = f"t{secrets.token_hex(4)[:7]}"  # one length for all: none is the beginning of another
    yield name
    remove_streams(
        nats_url, *(f"{kind}_{name}" for kind in ("ROOST", "OBJ_ROOST", "ROOST-SCHED", "ROOST-UPKEEP"))
    )


@pytest.fixture
def own_server() -> Iterator[LocalServer]:
    """A server for this test alone, to be killed, frozen and restarted."""
    with LocalServer() as server:
        yield server


@pytest.fixture
def own_cluster() -> Iterator[LocalCluster]:
    """Three servers for this test alone: `kill(0)`, `start(0)`, `leader_of(stream)`."""
    with LocalCluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    """The number to seed `random.Random` with: --roost-seed, else ROOST_SEED, else chosen for this run."""
    return pytestconfig.stash[_SEED]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and "seed" in getattr(item, "fixturenames", ()):
        number = item.config.stash[_SEED]
        report.sections.append(("roost seed", f"repeat with: pytest --roost-seed {number} '{item.nodeid}'"))
    return report
