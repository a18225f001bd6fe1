"""An extension's tables move with the tenant, whatever they are made of."""

import json
import subprocess
import sys

import psycopg
import pytest

from tests import settings as run
from tests.conftest import ROOT, child_environment, database_environment

pytestmark = pytest.mark.thorough
SEATED = [
    ["ann", "ANN", "bob"],
    ["bob", "BOB", "cem"],
    ["cem", "CEM", "dov"],
    ["dov", "DOV", None],
]


@pytest.fixture
def extended():
    """A database of its own with the extension in it, and the environment that names it."""
    from tenants import roles

    name = f"{run.DATABASE_NAME}_parlour"
    superuser = run.postgres.superuser_conninfo()
    roles.create_database(superuser, name, template=run.TEMPLATE_NAME)
    yield (
        child_environment()
        | database_environment(run.postgres, name)
        | {"SLIPWAY_EXTENSIONS": "tests.parlour", "DJANGO_SETTINGS_MODULE": "tests.chaos.moving"}
    )
    with psycopg.connect(superuser, autocommit=True) as connection:
        connection.execute(f'drop database "{name}" with (force)')


def manage(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rows_that_are_numbered_point_at_one_another_and_swap_arrive_whole(extended):
    manage(extended, "manage.py", "migrate", "--verbosity=0", "--skip-checks")
    drainer = subprocess.Popen([sys.executable, "manage.py", "drain"], cwd=ROOT, env=extended)
    try:
        found = json.loads(manage(extended, "-m", "tests.parlour.removal"))
    finally:
        drainer.terminate()
        drainer.wait(60)
    assert found["there"] == [*SEATED, ["after pro", "AFTER PRO", None]]
    assert found["left"] == []
    assert found["back"] == [*found["there"], ["after free", "AFTER FREE", None]]
    assert found["others"] == 2
