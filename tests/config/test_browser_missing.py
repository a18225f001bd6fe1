"""Without a Chromium browser tests are skipped, and the last line says so; or they must not be."""

import os
import subprocess
import sys

import pytest

from tests.conftest import PREPARED, ROOT

pytestmark = pytest.mark.thorough


def run(*options: str, **variables: str) -> list[str]:
    """What a run of one browser test prints, where Chromium is hidden."""
    ours = ("PYTEST_", "SLIPWAY_", "DATABASE_", "OPERATOR_", "OWNER_", "REDIS_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {"SLIPWAY_TEST_CHROMIUM": "/nowhere/chromium", PREPARED: os.environ[PREPARED]}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options,
         "tests/onboarding/test_browser.py"],
        cwd=ROOT, env=environment | variables, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    return done.stdout.splitlines()


@pytest.mark.parametrize("options", [[], ["-n", "1"]])
def test_the_last_line_says_how_many_were_skipped_and_how_to_get_a_browser(options):
    *before, last = run(*options)
    assert before[-1].startswith("1 skipped")
    assert last.startswith("1 browser test was skipped, since there is no Chromium: `apt-get")


def test_where_a_browser_is_required_they_fail_instead():
    said = run(SLIPWAY_TEST_BROWSER="required")
    assert said[-1].startswith("1 error"), said  # Before its fixtures: its set-up is what fails.
    assert any("There is no Chromium" in line for line in said)
