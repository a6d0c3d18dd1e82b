"""The pytest plugin, used by a project of its own."""

from __future__ import annotations

import re

import pytest

STREAMS = """
import asyncio, nats

def streams_after(url, *names, storage="file"):
    async def work():
        client = await nats.connect(url)
        js = client.jetstream()
        for name in names:
            await js.add_stream(name=name, subjects=[f"{name}.>"], storage=storage)
        found = {info.config.name for info in await js.streams_info()}
        await client.close()
        return found
    return asyncio.run(work())
"""


def test_each_test_has_a_namespace_and_its_streams_go_with_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        STREAMS
        + """
seen = []

def use(namespace, url):
    seen.append(namespace)
    mine = {f"ROOST_{namespace}", f"ROOST_{namespace}_SCHED"}
    found = streams_after(url, *mine)
    assert {name for name in found if name.startswith("ROOST_")} == mine
    return found

def test_first(namespace, nats_url):
    use(namespace, nats_url)
    streams_after(nats_url, "KEPT")

def test_second(namespace, nats_url):
    assert "KEPT" in use(namespace, nats_url)

def test_names(namespace, nats_server, nats_url):
    assert namespace.isalnum() and namespace not in seen and len(set(seen)) == 2
    assert nats_url == nats_server.url
"""
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=3)


def test_more_streams_than_one_answer_lists_are_all_removed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        STREAMS
        + """
def test_many(namespace, nats_url):  # the server lists 1024 names at a time
    streams_after(nats_url, *(f"ROOST_{namespace}_{n}" for n in range(1030)), storage="memory")

def test_none_is_left(nats_url):
    assert streams_after(nats_url) == set()
"""
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=2)


def test_a_test_may_kill_a_server_of_its_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
def test_kill(own_server, nats_server):
    own_server.kill()
    assert nats_server.running and not own_server.running

def test_the_next_one_runs(own_server):
    assert own_server.running
"""
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=2)


def test_a_failed_test_says_how_to_repeat_its_seed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_chance(seed): assert seed == 'never'\ndef test_other(): assert False")
    failed = pytester.runpytest_inprocess()
    [(given, test)] = re.findall(r"repeat with: pytest --roost-seed (\d+) '(\S+)'", failed.stdout.str())
    assert test.endswith("::test_chance")
    again = pytester.runpytest_inprocess("--roost-seed", given)
    assert f"assert {given} == 'never'" in again.stdout.str()


def test_the_seed_comes_from_the_environment_unless_given(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOST_SEED", "7")
    pytester.makepyfile("def test_chance(seed): assert seed == 7")
    pytester.runpytest_inprocess().assert_outcomes(passed=1)
    pytester.runpytest_inprocess("--roost-seed=8").assert_outcomes(failed=1)


def test_a_seed_that_is_no_number_is_refused(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOST_SEED", "seven")
    refused = pytester.runpytest_inprocess()
    refused.stderr.fnmatch_lines(["*ROOST_SEED is 'seven'; it must be a whole number*"])
    assert refused.ret == pytest.ExitCode.USAGE_ERROR


def test_a_missing_server_fails_the_test_with_the_sentence(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOST_NATS_SERVER", "/no/such/nats-server")
    pytester.makepyfile("def test_it(nats_url): pass")
    failed = pytester.runpytest_inprocess()
    failed.assert_outcomes(errors=1)
    failed.stdout.fnmatch_lines(["*ServerUnavailable: ROOST_NATS_SERVER is '/no/such/nats-server'*"])
