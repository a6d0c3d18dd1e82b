"""A JupyterLab of its own, on a copy of the notebooks, and a browser without a window that looks at them."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from course_kit import NOTEBOOKS
from playwright.sync_api import Page, sync_playwright

IN_CI = bool(os.environ.get("CI"))
CHROMIUM = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), "")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
START_LIMIT_S = 60.0
OPEN_LIMIT_MS = 60_000
UNUSED = ("jupyter_lsp", "jupyter_server_terminals", "jupytext", "notebook_shim")
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # cells out of sight are in the page, too
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "apputils-extension/themes": {"adaptive-theme": True},  # light or dark, as the browser says
}

READY = """async () => {
    const app = window.jupyterapp;
    await app.restored;
    const panel = app.shell.currentWidget;
    await panel.context.ready;
    await panel.sessionContext.ready;
    await panel.revealed;
}"""
CLEAR = "async () => await window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')"
RUN_ALL = "async () => await window.jupyterapp.commands.execute('notebook:run-all-cells')"
OUTPUTS = """() => window.jupyterapp.shell.currentWidget.content.widgets
    .filter(cell => cell.model.type === 'code')
    .map(cell => Array.from({length: cell.model.outputs.length}, (_, i) => cell.model.outputs.get(i).toJSON()))"""
IMAGES_LOADED = """async () => {
    await Promise.all(Array.from(document.querySelectorAll('.jp-OutputArea-output img'), image => image.decode()));
    await new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve)));
}"""


@contextmanager
def jupyterlab(folder: Path) -> Iterator[str]:
    """Starts JupyterLab on a copy of the notebooks in `folder`; gives its URL with `{}` in the notebook's place."""
    copy = shutil.copytree(
        NOTEBOOKS, folder / "notebooks", ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    )
    for name, value in SETTINGS.items():
        settings = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(json.dumps(value))
    token = secrets.token_hex(16)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("NATS_", "JUPYTER"))},
        **{f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")},
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_TOKEN": token,
    }
    options = {
        "ServerApp.port": "0",
        "ServerApp.root_dir": str(copy),
        "ServerApp.allow_root": "True",
        "ServerApp.open_browser": "False",
        "ServerApp.jpserver_extensions": repr(dict.fromkeys(UNUSED, False)),
        "LabApp.expose_app_in_browser": "True",
        "LabApp.extension_manager": "readonly",
    }
    with (folder / "jupyterlab.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        where = _started(process, folder / "runtime", folder / "jupyterlab.log")
        yield f"{where}doc/tree/{{}}?token={token}"
    finally:
        process.terminate()  # it ends its kernels, too
        process.wait(30)


def _started(process: subprocess.Popen[bytes], runtime: Path, log: Path) -> str:
    """The server writes a file when it listens; nothing else tells."""
    until = time.monotonic() + START_LIMIT_S
    told = runtime / f"jpserver-{process.pid}.json"
    while time.monotonic() < until and process.poll() is None:
        try:
            return str(json.loads(told.read_text())["url"])
        except (FileNotFoundError, json.JSONDecodeError):
            time.sleep(0.05)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


@contextmanager
def browser(*, dark: bool = False) -> Iterator[Page]:
    """A page of a Chromium without a window."""
    if not CHROMIUM:
        raise RuntimeError("there is no Chromium on the PATH; apt-get install chromium, as .ci/run does")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            page = chromium.new_page(
                viewport={"width": 1280, "height": 1000}, color_scheme="dark" if dark else "light"
            )
            page.set_default_timeout(OPEN_LIMIT_MS)
            yield page
        finally:
            chromium.close()
