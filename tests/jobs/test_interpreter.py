"""A process that drains: what of Python's own ways it changes at its start."""

import subprocess
import sys

ASK = """
import gc, sys
from jobs.engine import interpreter
interpreter.prepare()
print(gc.get_freeze_count() > 1_000, gc.get_threshold()[0] > 700, sys.getswitchinterval() < 0.005)
"""


def test_threads_take_short_turns_and_what_stays_is_not_looked_at_again():
    said = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["True", "True", "True"]
