"""What the benchmarks measure is what is shipped."""

import re

import pytest

from benchmarks.campaigns import coordinating
from benchmarks.stack import ROOT, default_of


def test_a_campaigns_post_is_measured_as_the_procfile_serves_it():
    shape = coordinating.shipped()
    command = next(
        line for line in (ROOT / "Procfile").read_text().splitlines() if line.startswith("web: ")
    )
    assert f"--workers ${{WEB_WORKERS:-{shape.workers}}}" in command
    assert f"--blocking-threads ${{WEB_THREADS:-{shape.threads}}}" in command
    example = (ROOT / ".env.example").read_text()
    assert re.search(rf"^# WEB_THREADS={shape.threads}$", example, re.MULTILINE)
    # Else a campaign that waits would hold nobody up.
    assert shape.workers * shape.threads < coordinating.CONNECTIONS


def test_a_default_that_the_procfile_does_not_have_is_not_made_up():
    with pytest.raises(RuntimeError, match="WEB_CHEESE"):
        default_of("WEB_CHEESE")
