"""The tests' settings with an app that breaks the rules of isolation."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS, SHARED_APPS

SHARED_APPS = [*SHARED_APPS, "tests.unsafe"]
INSTALLED_APPS = [*INSTALLED_APPS, "tests.unsafe"]
