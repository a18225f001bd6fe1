"""docs/operations.md, tried: every command of the page, in its order, against a running system.

Its code blocks of shell are run by a shell, with the page's own names set to what is there. None
may rot: a block that is added is run, and a name that is not set fails.
"""

import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests

from config.embedded import Postgres, Valkey
from config.embedded.postgres import _binary
from tests.flows.stranger import Stranger
from tests.flows.test_webhooks import Caller
from tests.upping import ROOT, Up, end, free_ports, left_behind, wait

pytestmark = pytest.mark.thorough
LONG = pytest.mark.skipif(
    os.environ.get("SLIPWAY_CHAOS") != "long", reason="takes minutes: `make chaos` runs it"
)

PAGE = ROOT / "docs" / "operations.md"
# Exit codes by which a command says how things are, and not that it failed.
TOLD = {"manage.py doctor": {0, 1, 2}, "manage.py reconcile": {0, 3}}
# After these the processes are started again, as the page says.
RESTART = re.compile(r"manage\.py rotate-keys (?!.*--dry-run)")
SHELL = """
manage.py() { "$PYTHON" manage.py "$@"; }
"""


def blocks() -> dict[str, list[str]]:
    """The commands of each part of the page, in their order."""
    found: dict[str, list[str]] = {}
    for part in re.split(r"^#+ ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        title = part.splitlines()[0]
        for block in re.findall(r"```sh\n(.*?)```", part, re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            found.setdefault(title, []).extend(line for line in lines if line.strip())
    return found


PARTS = blocks()


class Operator:
    """Somebody at a terminal, with the page open."""

    def __init__(self, running: Up, directory: Path) -> None:
        self.running = running
        self.postgres = Postgres(running.state / "postgres")
        self.valkey = Valkey(running.state / "valkey")
        self.variables = {
            "PATH": f"{_binary('psql').parent}:{os.environ['PATH']}",
            "HOME": os.environ.get("HOME", "/"),
            "PYTHON": sys.executable,
            "SLIPWAY_STATE_DIR": str(running.state),
            "PORT": str(running.port),
            "PUBLIC_URL": f"http://127.0.0.1:{running.port}",
            "BACKUP": str(directory / "slipway.dump"),
            "POSTGRES_SUPERUSER_URL": self.postgres.superuser_conninfo(),
            "SLIPWAY_SUPERUSER_URL": self.postgres.superuser_conninfo("slipway"),
            "BEFORE_SUPERUSER_URL": self.postgres.superuser_conninfo("slipway_before"),
            "PERSON": "mary@example.com",
            "RESTORED_SUPERUSER_URL": self.postgres.superuser_conninfo("slipway_restored"),
        }

    def run(self, command: str) -> str:
        """What it printed. Fails where the command does."""
        done = subprocess.run(
            ["bash", "-uc", SHELL + command],
            cwd=ROOT, env=self.variables, capture_output=True, text=True, timeout=180,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        allowed = next((codes for name, codes in TOLD.items() if command.startswith(name)), {0})
        assert done.returncode in allowed, f"{command}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, f"{command}\n{done.stderr}"
        return done.stdout

    def follow(self, title: str) -> dict[str, str]:
        """Run a part of the page; what each of its commands printed."""
        said = {}
        for command in PARTS[title]:
            said[command] = self.run(command)
            if RESTART.match(command):
                self.restart()
        return said

    def restart(self) -> None:
        """The processes that serve, one by one; the supervisor starts each again."""
        for name in ("wsgi", "asgi", "config worker"):
            victim = self.running.find(name)
            os.kill(victim, signal.SIGTERM)
            wait(lambda name=name, victim=victim: self.running.find(name, besides=victim), 180)
        wait(self.running.is_well, 180)


@pytest.fixture(scope="module")
def operator(tmp_path_factory):
    """A system of its own, since its database is put aside; a tenant with an endpoint, at work."""
    directory = tmp_path_factory.mktemp("runbook")
    running = Up(directory / "state", free_ports())
    someone = Operator(running, directory)
    try:
        wait(lambda: running.has_said("\nready") or running.process.poll() is not None, 300)
        running.wait_ready()
        settle(someone)
        yield someone
    finally:
        someone.valkey.stop()
        running.process.kill()
        running.process.wait()
        wait(lambda: not left_behind(running.state) or end(left_behind(running.state)))


def settle(operator: Operator) -> None:
    stranger = Stranger(operator.running)
    accepted = stranger.sign_up(email="ada@example.com", tenant_name="Acme", plan="free")
    stranger.wait_ready(accepted)
    slug = accepted["tenant"]["slug"]
    caller = Caller(operator.running, stranger.platform_key, **{"Slipway-Tenant": slug})
    made = caller.post("/endpoints", url="https://hooks.example.com/", event_types=["a.b"])
    operator.run('manage.py operators add "$PERSON" --role viewer --reason "to be erased one day"')
    operator.variables |= {
        "KEY": stranger.platform_key,
        "TENANT": slug,
        "ENDPOINT": made["id"],
        "ENDPOINT_UUID": made["id"].removeprefix("ep_"),
        "REQUEST_UUID": accepted["request_id"].removeprefix("req_"),
    }


def test_every_part_of_the_page_is_followed_here():
    followed = {*QUIET, *LOUD}
    assert set(PARTS) == followed
    assert sum(len(commands) for commands in PARTS.values()) > 60


QUIET = [
    "Looking at it",
    "A sign-up that is stuck",
    "A webhook endpoint that fails",
    "A provider of messages that is dead",
    "A backlog",
    "Postgres fails over",
    "A tenant's life",
    "Operators sign in",
    "Upgrade, and roll back",
    "Dead letters",
]
LOUD = ["Redis is lost", "Keys are to be replaced", "Back up", "Restore"]


@pytest.mark.parametrize("title", QUIET)
def test_its_commands_do_what_the_page_says(operator, title):
    said = operator.follow(title)
    assert all(said.values()) or title == "Upgrade, and roll back"


@LONG
def test_redis_is_lost_and_found_again(operator):
    operator.valkey.kill()
    assert requests.get(f"{operator.variables['PUBLIC_URL']}/readyz", timeout=10).status_code == 200
    assert "Redis does not answer" in operator.run("manage.py doctor --only redis")
    operator.valkey.start()
    said = operator.follow("Redis is lost")
    assert "It answers in" in said["manage.py doctor --only redis --only beat"]


@LONG
def test_keys_are_replaced(operator):
    before = (operator.running.state / "secrets.env").read_text()
    said = operator.follow("Keys are to be replaced")
    assert "is accepted; the old one signs" in said["manage.py rotate-keys stored --dry-run"]
    after = (operator.running.state / "secrets.env").read_text()
    assert len(after.splitlines()) == len(before.splitlines())
    changed = set(after.splitlines()) - set(before.splitlines())
    assert {line.partition("=")[0] for line in changed} == {"STORED_SECRET_KEYS", "CONTEXT_KEY"}
    assert "accepts CONTEXT_KEY" in said["manage.py doctor --only context"]
    # What was stored can still be read, and pages still be served.
    operator.follow("A webhook endpoint that fails")


@LONG
def test_a_backup_is_restored(operator):
    operator.follow("Back up")
    operator.variables["SINCE"] = datetime.now(UTC).isoformat()
    stranger = Stranger(operator.running)
    after = stranger.sign_up(email="bob@example.com", tenant_name="Later", plan="free")
    stranger.wait_ready(after)
    said = operator.follow("Restore")
    looked = said[
        "manage.py doctor --only restored --only roles --only isolation --only migrations"
    ]
    assert "Drainers wait since" in looked  # By what is remembered, or by where it lies.
    assert "Each role has the rights" in looked
    assert "is isolated" in looked
    wait(operator.running.is_well, 180)
    assert stranger.wait_ready(
        stranger.sign_up(email="eve@example.com", tenant_name="Anew", plan="free")
    )
    assert requests.get(after["status_url"], timeout=10).status_code == 404
