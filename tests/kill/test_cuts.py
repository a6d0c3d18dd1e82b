"""Every mutant, the rare ones included, still fits the code that it breaks: `make mutants` is run seldom."""

from __future__ import annotations

from pathlib import Path

import pytest

import kill.mutants
import simulation.mutants

ROOT = Path(__file__).resolve().parents[2]
CUTS = [
    (mutant.name, folder / file, text)
    for mutants, folder in (
        (kill.mutants.MUTANTS, ROOT / "src" / kill.mutants.TASKS),
        (simulation.mutants.MUTANTS, ROOT),
    )
    for mutant in mutants
    for file, text, _ in mutant.cuts
]


@pytest.mark.parametrize(("name", "file", "text"), CUTS)
def test_a_cut_fits_once(name: str, file: Path, text: str) -> None:
    assert file.read_text().count(text) == 1, name
