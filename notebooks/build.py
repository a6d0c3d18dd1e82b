"""Makes the notebooks: `python -m notebooks.build [names] [--jobs 2]` executes each `.py` into the `.ipynb` beside it.

A notebook's text is its `.py` (jupytext, percent format). The `.ipynb` has the same cells and what they put out; what
changes from run to run without meaning anything (identifiers, ports, versions of the kernel) is made the same, so
that a difference is one of content.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).resolve().parent
SOLUTIONS = HERE / "solutions"
CELL_LIMIT_S = 60
MAX_BYTES = 400_000
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}
OF_LEARNER = ("NATS_URL", "NATS_PREFIX", "JUPYTERHUB_USER", "ROOST_MODEL")
OF_MACHINE = re.compile(r"/(?:home|Users|root|tmp|work|opt|usr|var)/[^\s<\"']+|\x1b\[")
LOOPBACK_PORT = re.compile(r"(127\.0\.0\.1|localhost):\d{4,5}\b")


def sources(folder: Path = HERE) -> list[Path]:
    """The notebooks' texts: their names have a `-`, those of modules have none."""
    return sorted(folder.glob("*-*.py"))


def read(source: Path, *, solved: bool = False) -> Any:
    """The notebook without outputs; `solved` puts the solutions in place of the exercises' cells.

    Raises ValueError for a solution without its exercise, or the other way round.
    """
    book = jupytext.read(source, fmt="py:percent")
    book.metadata = nbformat.from_dict(METADATA)
    seen: Counter[str] = Counter()
    for cell in book.cells:
        digest = hashlib.sha256(f"{cell.cell_type}{cell.source}".encode()).hexdigest()[:8]
        seen[digest] += 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k in ("tags",)})
    if solved:
        answers = solutions(source)
        for cell in book.cells:
            for name in exercises_of(cell):
                if name not in answers:
                    raise ValueError(f"{source.name}: there is no solution of {name}")
                cell.source = answers.pop(name)
        if answers:
            raise ValueError(f"{source.name}: solutions without an exercise: {', '.join(answers)}")
    return book


def exercises_of(cell: Any) -> list[str]:
    """The tag `exercise-N` of a cell."""
    return [tag for tag in cell.metadata.get("tags", ()) if re.fullmatch(r"exercise-\d+", tag)]


def solutions(source: Path) -> dict[str, str]:
    """By the name of the exercise, from `solutions/<the notebook's name>`."""
    path = source.parent / "solutions" / source.name
    if not path.exists():
        return {}
    parts = re.split(r"^# %% (exercise-\d+)[^\n]*\n", path.read_text(encoding="utf-8"), flags=re.M)
    return {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def execute(book: Any, *, folder: Path = HERE, environment: dict[str, str] | None = None) -> Any:
    """Runs all cells in a fresh kernel whose folder is `folder`. Raises CellExecutionError, which shows the cell.

    The kernel does not see NATS_URL and the like unless `environment` has them: a build does not depend on them.
    """
    given = {k: v for k, v in os.environ.items() if k not in OF_LEARNER}
    given |= environment or {}
    with tempfile.TemporaryDirectory(prefix="lesson-ipython-") as ipython:
        client = NotebookClient(
            book,
            timeout=CELL_LIMIT_S,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
            record_timing=False,
            coalesce_streams=True,
            extra_arguments=["--log-level=ERROR"],
        )
        client.execute(env=given | {"IPYTHONDIR": ipython})
    return book


def normalise(book: Any) -> Any:
    """Makes the same what means nothing."""
    for cell in book.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            output.pop("transient", None)
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})
            if "text" in output:
                output.text = LOOPBACK_PORT.sub(r"\1:4222", output.text)
            for kind, value in output.get("data", {}).items():
                if isinstance(value, str) and (kind.startswith("text/") or kind == "image/svg+xml"):
                    output.data[kind] = LOOPBACK_PORT.sub(r"\1:4222", value)
    return book


def problems(book: Any) -> list[str]:
    """What a stored notebook may not have, one sentence each."""
    found = []
    for number, cell in enumerate(book.cells, 1):
        if cell.cell_type != "code":
            continue
        place = f"cell {number} ({cell.source.splitlines()[0] if cell.source else 'empty'})"
        if not cell.outputs and "quiet" not in cell.metadata.get("tags", ()):
            found.append(f"{place} has no output; show something, or tag it `quiet`")
        for output in cell.outputs:
            found += [f"{place} {one}" for one in _wrong(output)]
    return found


def _wrong(output: Any) -> list[str]:
    if output.output_type == "error":
        return [f"raised {output.ename}: {output.evalue}"]
    if output.output_type == "stream":
        wrong = [f"wrote to stderr: {output.text[:300].strip()}"] if output.name == "stderr" else []
        return wrong + _machine(output.text)
    data = output.get("data", {})
    wrong = [one for kind, value in data.items() if kind.startswith("text/") for one in _machine(str(value))]
    if "image/svg+xml" in data:
        svg = data["image/svg+xml"]
        wrong += _machine(svg)
        wrong += [] if re.search(r"<title[^>]*>\s*\S", svg) else ["shows a picture without alternative text"]
    wrong += [f"shows {kind}; pictures are SVG" for kind in data if kind in ("image/png", "image/jpeg")]
    return wrong + ([] if any(str(value).strip() for value in data.values()) else ["has an empty output"])


def _machine(text: str) -> list[str]:
    return [
        f"shows {found!r}, which is of this machine or terminal"
        for found in sorted(set(OF_MACHINE.findall(text)))
    ]


def plain(error: Exception) -> str:
    """An error as text, without the colours of a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", str(error))


def build(source: Path) -> tuple[str, list[str], float]:
    """Executes one notebook and writes it, unless a cell raised; name, problems and seconds."""
    began = time.monotonic()
    target = source.with_suffix(".ipynb")
    try:
        book = normalise(execute(read(source), folder=source.parent))
    except CellExecutionError as error:
        return source.stem, [plain(error)], time.monotonic() - began
    text = nbformat.writes(nbformat.validator.normalize(book)[1]) + "\n"
    found = problems(book)
    if len(text.encode()) > MAX_BYTES:
        found.append(f"it has {len(text.encode())} bytes; allowed are {MAX_BYTES}")
    beside = target.with_suffix(".ipynb.part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(target)
    return source.stem, found, time.monotonic() - began


def shown(book: Any) -> str:
    """All text that the notebook has put out."""
    outputs = [output for cell in book.cells for output in cell.get("outputs", ())]
    return "\n".join(str(one.get("text") or one.get("data", {}).get("text/plain", "")) for one in outputs)


def check(source: Path, environment: dict[str, str] | None = None) -> tuple[str, list[str], float]:
    """Executes one notebook with its solutions and stores nothing; name, what is wrong, and seconds."""
    began = time.monotonic()
    found = []
    try:
        book = execute(read(source, solved=True), folder=source.parent, environment=environment)
        text = shown(book)
        found += problems(normalise(book))
        for number in (name.removeprefix("exercise-") for name in solutions(source)):
            said = re.findall(rf"^Exercise {number}: .*", text, re.M)
            if not any(re.match(r"Exercise \d+: (right\.|Not run here)", one) for one in said):
                found.append("; ".join(said) or f"exercise {number} is checked by no cell")
        found += re.findall(r"^Left open .*", text, re.M)
        if "Nothing is left." not in text.splitlines():
            found.append("its last cell does not say that nothing is left")
    except (CellExecutionError, ValueError) as error:
        found = [plain(error)]
    return source.stem, found, time.monotonic() - began


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m notebooks.build", description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="notebooks, by name or path; all if none is given")
    parser.add_argument("--jobs", type=int, help="how many at once (default: 2, and 1 on a shared server)")
    parser.add_argument("--check", action="store_true", help="execute with the solutions and store nothing")
    parser.add_argument("--nats-url", help="with --check: a shared server to run on")
    parser.add_argument("--prefix", default="ada", help="with --nats-url: the learner's prefix there")
    options = parser.parse_args(arguments)
    if options.nats_url and not options.check:
        parser.error("--nats-url needs --check: what is stored does not depend on a server")
    jobs = options.jobs or (1 if options.nats_url else 2)
    if options.nats_url and jobs > 1:
        parser.error("--nats-url runs one notebook at a time: two of one prefix delete each other's streams")
    given = {"NATS_URL": options.nats_url, "NATS_PREFIX": options.prefix} if options.nats_url else {}
    work = partial(check, environment=given) if options.check else build
    chosen = [_find(name) for name in options.names] or sources()
    failed = 0
    with ProcessPoolExecutor(max_workers=max(1, min(jobs, len(chosen) or 1))) as pool:
        for name, found, took_s in pool.map(work, chosen):
            failed += bool(found)
            print(f"{'FAILED' if found else 'ok':<7}{took_s:5.1f} s  {name}", flush=True)
            for one in found:
                print("\n".join(f"        {line}" for line in one.splitlines()), flush=True)
    return 1 if failed else 0


def _find(name: str) -> Path:
    path = Path(name)
    if path.parent == Path():
        path = HERE / path
    path = path.with_suffix(".py")
    if not path.exists():
        sys.exit(f"there is no {name}; notebooks are: {', '.join(one.stem for one in sources())}")
    return path


if __name__ == "__main__":
    sys.exit(main())
