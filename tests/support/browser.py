"""A headless Chromium for tests of pages: whatever goes wrong in a page, or leaves it, is kept."""

import shutil
import time
from contextlib import contextmanager

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium")
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]  # as root, in a small container


@contextmanager
def chromium():
    """Yield a browser; skip the test where Debian's chromium is not installed."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium on the path (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Visit:
    """One page opened from its file; ``complaints`` are its console messages, errors and requests to anywhere else."""

    def __init__(self, browser, file, *, dark=False, anchor=""):
        self.complaints: list[str] = []
        self.page: Page = browser.new_page(
            color_scheme="dark" if dark else "light", viewport={"width": 1280, "height": 900}
        )
        self.page.on("console", lambda message: self.complaints.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        self.page.on("request", lambda request: self._request(request.url))
        self.page.goto(file.as_uri() + anchor)

    def _request(self, url: str) -> None:
        if not url.startswith(("file:", "data:")):
            self.complaints.append(f"request: {url[:80]}")

    def fits(self) -> bool:
        """Return whether the page is no wider than its window."""
        return self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    def wait_until(self, expression: str) -> None:
        """Wait until a JavaScript expression is true.

        Playwright's wait_for_function evaluates text inside the page from the second try on, which our pages forbid.
        """
        end = time.monotonic() + 30
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, f"still false after 30 s: {expression}"
            self.page.wait_for_timeout(20)

    def violations(self) -> list[str]:
        """Return what axe-core finds against accessibility, one line a rule, and whether the page is too wide."""
        found = Axe().run(self.page).response["violations"]
        lines = [f"{rule['id']}: {rule['nodes'][0]['target']} and {len(rule['nodes']) - 1} more" for rule in found]
        return lines if self.fits() else [*lines, "it is wider than its window"]
