"""Opens pages in headless Chromium, without a network, and finds axe-core for them."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

AXE = "axe-core@4.11.0"

SCREEN: ViewportSize = {"width": 1280, "height": 900}


def chromium() -> str:
    """Return the path of the system's Chromium; skip the test where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("there is no Chromium here; tests/install_chromium.sh installs it where it may")
    return found


@contextmanager
def started() -> Iterator[Browser]:
    """Start a browser, which costs more than to open a page in it."""
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=[*sandbox, "--disable-gpu"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, file: Path, *, charts: bool = False) -> Iterator[Page]:
    """Open a page whose every request but the one for itself is noted as a fault.

    Args:
        browser: The browser.
        file: The page.
        charts: Whether to wait until each chart is drawn.

    Yields:
        The page; at the end of the block it must have had no errors, and no request but its own.
    """
    faults: list[str] = []
    context = browser.new_context(viewport=SCREEN, offline=True)
    page = context.new_page()
    page.set_default_timeout(300_000)  # a busy machine is slow
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("console", lambda said: faults.append(f"console: {said.text}") if said.type == "error" else None)
    own = file.absolute().as_uri()
    page.on("request", lambda asked: None if _is_own(asked.url, own) else faults.append(f"request: {asked.url}"))
    page.goto(own)
    if charts:
        draw(page)
    yield page
    assert page.evaluate("window.hacked") is None
    assert faults == []
    context.close()


def _is_own(url: str, own: str) -> bool:
    return url.partition("#")[0] == own or url.startswith(("data:", "blob:"))


def draw(page: Page) -> None:
    """Scroll to each chart and wait until it is drawn."""
    page.wait_for_function("() => window.Plotly")
    for plot in page.query_selector_all(".plot > div"):
        plot.scroll_into_view_if_needed()
        page.wait_for_function("plot => plot.dataset.drawn", arg=plot)
    page.evaluate("scrollTo(0, 0)")


@functools.cache
def axe() -> str:
    """Return the code of axe-core, from npm, which is asked once; skip the test where it cannot be had."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "finesweep-tests"
    script = cache / f"{AXE.replace('@', '-')}.min.js"
    if not script.exists():
        if shutil.which("npm") is None:
            pytest.skip("axe-core comes with npm, which is not here")
        cache.mkdir(parents=True, exist_ok=True)
        packed = subprocess.run(
            ["npm", "pack", AXE], cwd=cache, capture_output=True, text=True, timeout=120, check=False
        )
        if packed.returncode != 0:
            pytest.skip(f"npm has no {AXE} for us: {packed.stderr.strip()[-200:]}")
        with tarfile.open(cache / packed.stdout.strip().splitlines()[-1]) as archive:
            member = archive.extractfile("package/axe.min.js")
            assert member is not None
            script.write_bytes(member.read())
    return script.read_text(encoding="utf-8")
