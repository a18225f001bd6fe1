"""`manage.py <command> --help`: every command shows how it is called, and is called so."""

import re
import shlex

import pytest
from django.conf import settings
from django.core.management import get_commands, load_command_class

ROOMS = {
    "config", "tenants", "jobs", "webhooks", "onboarding", "customers", "campaigns", "lifecycle",
    "console",
}  # fmt: skip
OURS = sorted(name for name, app in get_commands().items() if app in ROOMS)


def test_all_of_them_are_looked_at():
    assert {"up", "prepare", "migrate", "replay", "webhooks", "tenants", "sandbox"} <= set(OURS)
    assert set(settings.SHARED_APPS) | set(settings.TENANT_APPS) >= ROOMS - {"config"}


@pytest.mark.parametrize("name", OURS)
def test_its_examples_are_calls_that_it_takes(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
    shown = parser.format_help()
    examples, _, codes = shown.partition("\nexamples:\n")[2].partition("\nexit codes: ")
    assert codes.startswith("0 ")
    calls = re.findall(rf"manage\.py {name}\b(.*)", examples.replace("\\\n", " "))
    assert calls
    for call in calls:
        parser.parse_args(shlex.split(call))
    assert max(map(len, shown.splitlines())) <= 100
