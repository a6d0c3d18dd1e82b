"""A percentile is a sample that was measured; lines and columns stand where the values are."""

from __future__ import annotations

import math
import random

import pytest
from drawn import EVIL, drawn, size, told, with_class, words
from hypothesis import given, settings
from hypothesis import strategies as st

import roost
from roost import latency_picture
from roost.pictures._latency import figure, latencies, ticks


def test_percentiles_are_those_of_the_nearest_rank() -> None:
    (found,) = latency_picture([number / 1000 for number in range(100, 0, -1)]).spreads.values()
    assert (found.count, found.p50_s, found.p95_s, found.p99_s) == (100, 0.05, 0.095, 0.099)
    assert (found.least_s, found.most_s) == (0.001, 0.1)
    (few,) = latency_picture([1, 2, 3, 4, 5, 6, 7]).spreads.values()
    assert (few.p50_s, few.p95_s, few.p99_s) == (4, 7, 7)
    (one,) = latency_picture([0.25]).spreads.values()
    assert one.p50_s == one.p99_s == 0.25


def test_lines_stand_at_the_percentiles_and_columns_hold_all_samples() -> None:
    samples = [number / 1000 for number in range(1, 201)]
    scene = latencies({"": samples}, columns=120)
    assert sum(scene.series[0].columns) == 200
    root = drawn(latency_picture(samples))
    track = with_class(root, "track")[0]
    at = [float(one.get("d", "").split("L")[1].split()[0]) for one in with_class(root, "percentile")]
    shares = [(one - size(track, "x")) / size(track, "width") for one in at]
    assert shares == [pytest.approx(scene.share(one), abs=1e-3) for one in (0.1, 0.19, 0.198)]
    assert "p50 100 ms" in words(root)
    assert root[0].text == "Latency: 200 samples, p50 100 ms, p95 190 ms, p99 198 ms"


def test_several_series_share_an_axis_and_are_told_one_by_one() -> None:
    chance = random.Random(3)
    picture = latency_picture(
        {name: [chance.lognormvariate(mean, 0.3) for _ in range(50)] for name, mean in (("a", -8), ("b", -5))}
        | {"none yet": []},
        title="Ways",
    )
    root = drawn(picture)
    assert len(with_class(root, "track")) == 3
    assert len(with_class(root, "percentile")) == 6
    assert all(
        part in words(root) for part in ("100 samples", "3 series", "n = 50", "none yet", "The axis is log")
    )
    assert "Of fewer than 100 samples p99 is the slowest." in words(root)
    assert "none yet: no samples." in told(root)
    assert "b: 50 samples, p50 " in picture.text()


@pytest.mark.parametrize(("most", "log"), [(0.031, False), (0.032, True)])
def test_the_axis_is_logarithmic_beyond_one_and_a_half_decades(most: float, log: bool) -> None:
    assert latencies({"": [0.001, most]}, columns=9).log is log


def test_a_hundred_thousand_samples_make_a_small_file() -> None:
    chance = random.Random(1)
    picture = latency_picture([chance.lognormvariate(-7, 1) for _ in range(100_000)])
    assert len(picture.svg()) < 20_000
    assert "100,000 samples" in words(drawn(picture))


def test_a_single_slow_one_is_still_seen() -> None:
    root = drawn(latency_picture([*[0.001] * 10_000, 0.9]))
    (columns,) = [one.get("d", "") for one in with_class(root, "done")]
    assert columns.count("M") == 2
    assert "v-1.5h" in columns


def test_ticks_that_are_near_each_other_have_labels_that_differ() -> None:
    labels = [label for _, label in ticks(latencies({"": [1.0, 1.001]}, columns=9), at_most=9)]
    assert len(set(labels)) == len(labels) > 3
    assert labels[0] == "1.0000 s"


def test_figures_have_three_digits_and_the_unit_that_suits() -> None:
    found = [figure(one) for one in (0, 3e-7, 1e-6, 8.516e-4, 0.9996e-3, 0.0123, 0.9996, 1.5, 3600)]
    assert found == ["0", "300 ns", "1 µs", "852 µs", "1 ms", "12.3 ms", "1 s", "1.5 s", "3,600 s"]


@pytest.mark.parametrize("samples", [[], {}, {"a": []}])
def test_no_samples_is_said(samples: list[float]) -> None:
    picture = latency_picture(samples)
    assert "No samples." in words(drawn(picture))
    assert "No samples." in picture.text()


def test_foreign_text_stays_text() -> None:
    drawn(latency_picture({EVIL: [0.1], "日本語" * 40: [0.2, 0.3]}, title=EVIL))


@pytest.mark.parametrize(
    "samples", [[-1], [math.nan], [math.inf], ["1"], "12", [None], {"a": 1}, {"a": [-1]}, {1: [1]}]
)
def test_what_is_no_duration_is_refused_with_what_to_give_instead(samples: object) -> None:
    with pytest.raises(roost.ConfigError, match="latency_picture"):
        latency_picture(samples)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at most 20"):
        latency_picture({str(number): [0.1] for number in range(21)})


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(max_size=9), st.lists(st.floats(0, 1e9), max_size=30), max_size=4))
def test_any_samples_make_a_picture_within_its_bounds(samples: dict[str, list[float]]) -> None:
    drawn(latency_picture(samples))
