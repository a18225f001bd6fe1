"""Slipway's settings, with a generator that takes its time."""

from config.settings import *  # noqa: F403

SLIPWAY["GENERATORS"] |= {"slow": "benchmarks.campaigns.inline.generate"}  # noqa: F405
