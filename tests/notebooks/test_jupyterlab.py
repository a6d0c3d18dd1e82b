"""A learner opens a notebook in JupyterLab and runs all cells: no error, and every picture is to be seen.

A short one; all of them with `--long`. In CI (`CI` is set) a missing Chromium is an error, elsewhere the tests are
skipped. COURSE_PICTURES names a folder for a screenshot of each picture.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from course_kit import SOURCES
from laboratory import CHROMIUM, CLEAR, IMAGES_LOADED, IN_CI, OUTPUTS, READY, RUN_ALL, browser, jupyterlab
from playwright.sync_api import Page

SHORT = ("02-publish-subscribe",)
LIMIT_S = 180

pytestmark = [
    pytest.mark.skipif(not (CHROMIUM or IN_CI), reason="no Chromium here; apt-get install chromium"),
    pytest.mark.slow_limit(LIMIT_S),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with jupyterlab(tmp_path_factory.mktemp("jupyterlab")) as url:
        yield url


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as shown:
        yield shown


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "source" in metafunc.fixturenames:
        chosen = [one for one in SOURCES if one.stem in SHORT or metafunc.config.getoption("--long")]
        metafunc.parametrize("source", chosen, ids=lambda one: one.stem)


def test_a_notebook_opened_and_run_shows_every_picture(
    source: Path, place: str, page: Page, tmp_path: Path
) -> None:
    page.goto(place.format(f"{source.stem}.ipynb"))
    page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.context")
    page.evaluate(READY)
    page.evaluate(CLEAR)
    assert not any(page.evaluate(OUTPUTS))
    assert page.evaluate(RUN_ALL) is True, "a cell raised"
    cells: list[list[dict[str, Any]]] = page.evaluate(OUTPUTS)
    outputs = [output for cell in cells for output in cell]
    assert [one for one in outputs if one["output_type"] == "error"] == []
    assert page.locator('[data-mime-type="application/vnd.jupyter.error"]').count() == 0
    assert any("Nothing is left." in str(one.get("text", "")) for one in cells[-1])
    see_pictures(page, source, sum("image/svg+xml" in one.get("data", {}) for one in outputs))
    page.screenshot(path=tmp_path / f"{source.stem}.png")


def see_pictures(page: Page, source: Path, expected: int) -> None:
    """Each is drawn, as large as it says, and photographed if a folder is named."""
    page.evaluate(IMAGES_LOADED)
    pictures = page.locator(".jp-OutputArea-output img, .jp-OutputArea-output svg").all()
    assert len(pictures) == expected
    folder = os.environ.get("COURSE_PICTURES")
    if folder:
        page.screenshot(path=Path(folder) / f"{source.stem}.png")
    for number, picture in enumerate(pictures, 1):
        picture.scroll_into_view_if_needed()
        box = picture.bounding_box()
        assert box is not None, f"picture {number} is not shown"
        assert box["width"] > 100, f"picture {number} is {box['width']:.0f} pixels wide"
        assert box["height"] > 20, f"picture {number} is {box['height']:.0f} pixels high"
        if folder:
            picture.screenshot(path=Path(folder) / f"{source.stem}-{number:02d}.png")
