"""The browser of the browser tests: this machine's Chromium, driven by Playwright.

Tests that need it bear the mark `browser` (tests/conftest.py): without a Chromium they are skipped,
or fail where SLIPWAY_TEST_BROWSER is `required`. SLIPWAY_TEST_CHROMIUM names one that is not on
the PATH.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

NAMES = ("chromium", "chromium-browser")
HOW = "`apt-get install chromium` brings one; SLIPWAY_TEST_CHROMIUM names one elsewhere"
MISSING = f"There is no Chromium: {HOW}."


def find() -> str | None:
    """Where Chromium is."""
    named = os.environ.get("SLIPWAY_TEST_CHROMIUM")
    return next(filter(None, map(shutil.which, [named] if named else NAMES)), None)


def is_required() -> bool:
    return os.environ.get("SLIPWAY_TEST_BROWSER") == "required"


CHROMIUM = find()


@contextmanager
def launched() -> Iterator:
    """A browser, closed in the end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
