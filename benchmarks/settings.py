"""The settings of the transaction monolith: Slipway's, with one view in the place of its API."""

from config.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.monolith"
