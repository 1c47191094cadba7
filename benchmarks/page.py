"""How long a page takes to sort a table of 1,000 rows in headless Chromium, layout included.

Run: python benchmarks/page.py, where Debian's chromium is installed. Required: under 100 ms.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from reidbench import Part, Table
from reidbench.reports.html import to_html

ROWS, REPEATS = 1_000, 9
CLICK = """() => {
  const began = performance.now();
  document.querySelector("thead th:nth-child(2) button").click();
  document.body.offsetHeight;  // waits for the layout
  return performance.now() - began;
}"""


def milliseconds(page: Page) -> float:
    """Return the median of sorting by the second column, up and down."""
    return statistics.median(page.evaluate(CLICK) for _ in range(REPEATS))


def main() -> None:
    scores = [number * 7919 % ROWS / 10 for number in range(ROWS)]
    rows = [
        {"loss": f"batch_hard(margin={number})", "mAP": scores[number], "rank-1": scores[-number], "train time": number}
        for number in range(ROWS)
    ]
    part = Part(title="Scores", tables=[Table(rows)])
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "page.html"
        file.write_text(to_html([part], "A thousand rows", ""), encoding="utf-8")
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(file.as_uri())
        print(f"{ROWS} rows, the first of them shown   {milliseconds(page):6.1f} ms")
        page.get_by_role("button", name="Show all").click()
        print(f"{ROWS} rows, all shown                 {milliseconds(page):6.1f} ms")
        browser.close()


if __name__ == "__main__":
    main()
