"""The tests' settings, for moves that are slow enough to be killed in each of their phases."""

from tests.settings import *  # noqa: F403

SLIPWAY["MOVES"] = {"chunk": 20, "pace": 100.0, "keep": 2.0}  # noqa: F405
