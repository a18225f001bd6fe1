"""The tenant's states are drawn once, and the drawing is true."""

import re

from tenants.states import TRANSITIONS
from tests.conftest import ROOT


def test_the_drawing_shows_every_move_and_no_other():
    text = (ROOT / "docs" / "states.md").read_text()
    chart = re.search(r"## Tenant.*?```mermaid\n(.*?)```", text, re.DOTALL)[1]
    drawn = set(re.findall(r"^\s*(\w+) --> (\w+)", chart, re.MULTILINE))
    assert drawn == {(str(start), str(end)) for start, end in TRANSITIONS}
