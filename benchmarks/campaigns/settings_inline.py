"""The same, with one view in the place of its own."""

from benchmarks.campaigns.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.campaigns.inline"
