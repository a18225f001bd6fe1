"""An app that adds tables, steps, kinds and event types, without a line changed in Slipway."""

import json
import subprocess
import sys

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured

from config import extensions
from tests import settings as run
from tests.conftest import ROOT, child_environment, database_environment

EXTENSION = "tests.greetings"


@pytest.fixture
def extended():
    """A database and an environment with the extension in them."""
    from tenants import roles

    name = f"{run.DATABASE_NAME}_extended"
    superuser = run.postgres.superuser_conninfo()
    roles.create_database(superuser, name, template=run.TEMPLATE_NAME)
    yield (
        name,
        child_environment()
        | database_environment(run.postgres, name)
        | {"SLIPWAY_EXTENSIONS": EXTENSION},
    )
    with psycopg.connect(superuser, autocommit=True) as connection:
        connection.execute(f'drop database "{name}" with (force)')


def manage(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_goes_the_whole_way_in_both_homes(extended):
    name, environment = extended
    manage(environment, "manage.py", "migrate", "--verbosity=0", "--skip-checks")
    drainer = subprocess.Popen([sys.executable, "manage.py", "drain"], cwd=ROOT, env=environment)
    try:
        found = json.loads(manage(environment, "-m", "tests.greetings.whole_way"))
    finally:
        drainer.terminate()
        drainer.wait(60)
    pooled, dedicated = found
    assert pooled == "pool.greetings_greeting"
    assert dedicated.startswith("t_")
    with psycopg.connect(run.postgres.conninfo(name, "slipway_app")) as app:
        for table in found:
            count = app.execute(f"select count(*) from {table}") if table == pooled else None
            assert count is None or count.fetchone() == (0,)  # Nobody's eyes: no rows.


# ---- What is refused at start ----


def install(slipway: dict, brought: dict, monkeypatch, *names: str, **attributes) -> None:
    from tests.greetings.apps import GreetingsConfig

    monkeypatch.setattr(GreetingsConfig, "slipway", brought)
    for attribute, value in attributes.items():
        monkeypatch.setattr(GreetingsConfig, attribute, value)
    extensions.install(names or [EXTENSION], shared=["jobs"], tenant=[], slipway=slipway)


@pytest.mark.parametrize(
    ("slipway", "brought", "sentence"),
    [
        ({"JOBS": {"a": 1}}, {"JOBS": {"a": 2}}, "adds a to SLIPWAY['JOBS'], where it is already"),
        ({"HOME_PANELS": ["p"]}, {"HOME_PANELS": ["p"]}, "adds p to SLIPWAY['HOME_PANELS']"),
        (
            {"PROVISIONING_STEPS": [{"name": "billing", "url": "x"}]},
            {"PROVISIONING_STEPS": [{"name": "billing", "step": "y"}]},
            "adds billing to",
        ),
        ({"SIGN_UP_CHECK": None}, {"SIGN_UP_CHECK": "x"}, "which is the project's to set"),
        ({}, {"JOBZ": {}}, "SLIPWAY['JOBZ'], which is nothing"),
    ],
)
def test_what_two_want_to_be_is_refused_by_name(slipway, brought, sentence, monkeypatch):
    with pytest.raises(ImproperlyConfigured) as refused:
        install(slipway, brought, monkeypatch)
    assert EXTENSION in str(refused.value)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no.such.app", "cannot be loaded"),
        ("jobs", "which is there already"),
        ("tests.greetings.apps.GreetingsConfig", "name the package"),
    ],
)
def test_what_is_no_extension_is_refused_by_name(name, sentence):
    with pytest.raises(ImproperlyConfigured, match=sentence):
        extensions.install([name], shared=["jobs"], tenant=[], slipway={})


def test_it_adds_to_what_is_there(monkeypatch):
    slipway = {"JOBS": {"a": 1}, "HOME_PANELS": ["p"]}
    shared: list[str] = []
    tenant: list[str] = []
    monkeypatch.setattr(
        "tests.greetings.apps.GreetingsConfig.slipway", {"JOBS": {"b": 2}, "HOME_PANELS": ["q"]}
    )
    extensions.install([EXTENSION], shared=shared, tenant=tenant, slipway=slipway)
    assert slipway == {"JOBS": {"a": 1, "b": 2}, "HOME_PANELS": ["p", "q"]}
    assert (shared, tenant) == ([], [EXTENSION])
    monkeypatch.setattr("tests.greetings.apps.GreetingsConfig.tenant_app", False)
    extensions.install(
        [EXTENSION], shared=shared, tenant=[], slipway={"JOBS": {}, "HOME_PANELS": []}
    )
    assert shared == [EXTENSION]
