"""compose.yaml shows a deployment: the Procfile's processes, with variables that there are."""

import re
import shlex

import pytest
import yaml

from config.processes import procfile
from config.slipway import SLIPWAY
from tests.conftest import ROOT

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
PROCFILE = procfile(ROOT / "Procfile")


def words(command: str) -> list[str]:
    """Program and arguments, without what is said of logs, numbers and addresses."""
    command = re.sub(r"\$\{\w+:-(\S+?)\}", r"\1", command)
    command = re.sub(r"^env \S+ ", "", command)
    command = re.sub(r"--(quiet|log-?level \w+|workers 1|host \S+|port \S+)( |$)", "", command)
    return shlex.split(command)


@pytest.mark.parametrize("name", PROCFILE)
def test_each_process_runs_as_in_the_procfile(name):
    assert words(COMPOSE["services"][name]["command"]) == words(PROCFILE[name])


def test_every_variable_that_it_sets_is_one_that_slipway_reads():
    known = set(re.findall(r"^# (\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    for service in COMPOSE["services"].values():
        if service.get("image") == "python:3.11-slim":
            assert set(service["environment"]) - {"PATH"} <= known


def test_a_worker_may_finish_what_it_has_begun():
    longest = max(queue["deadline"] for queue in SLIPWAY["QUEUES"].values())
    grace = COMPOSE["services"]["worker"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > longest
