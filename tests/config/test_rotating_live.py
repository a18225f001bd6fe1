"""Keys are replaced under requests, while processes of before and after serve side by side."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import requests
from django.db import connections

from customers.models import Source
from tenants import rings
from tenants.context import tenant_context
from tenants.postgres import token
from tenants.postgres.keys import drop_context_keys, install_context_key
from tenants.rings import Unfinished
from tests.config.test_rotating import BY, kept, turned_twice, use
from tests.conftest import ROOT, child_environment
from tests.people import PASSWORD, host_of, make_user, tenant_key
from tests.upping import wait
from webhooks import rings as stored_rings
from webhooks import secrets
from webhooks.models import Endpoint

__all__ = ["kept", "use"]  # Fixtures.
pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(
        os.environ.get("SLIPWAY_CHAOS") != "long", reason="takes minutes: `make chaos` runs it"
    ),
]
PLACES = 2
PAUSE = 0.25  # Seconds between one person's calls: a key has its limit of calls a minute.


class Web:
    """One web process, which may be started again with other variables."""

    def __init__(self, log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.log, self.process = log, None
        self.in_turn = threading.Event()  # The balancer sends requests here.

    def start(self, variables: dict[str, str]) -> None:
        with self.log.open("a") as out:
            self.process = subprocess.Popen(
                [
                    *(Path(sys.executable).parent / "granian", "--interface", "wsgi", "--no-ws"),
                    *("--host", "127.0.0.1", "--port", str(self.port), "--blocking-threads", "2"),
                    "config.wsgi:application",
                ],
                cwd=ROOT, env=child_environment() | variables, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
        wait(self.answers, 60)
        self.in_turn.set()

    def answers(self) -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{self.port}/readyz", timeout=5).ok
        except OSError:
            return False

    def stop(self) -> None:
        self.in_turn.clear()
        time.sleep(0.5)  # Requests that were sent here already.
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


class Deployment:
    """Two web processes behind a balancer, and people who use them all the while."""

    def __init__(self, directory: Path, tenant) -> None:
        self.webs = [Web(directory / f"web-{n}.log") for n in range(PLACES)]
        self.variables: dict[str, str] = {}
        self.tenant, self.failures, self.served = tenant, [], 0
        self.cookies: dict[str, str] = {}
        self.key = tenant_key(tenant)
        self.endpoint = ""
        self._over = threading.Event()

    def start(self) -> None:
        for web in self.webs:
            web.start(self.variables)
        self.sign_in(make_user(self.tenant))
        self.users = [threading.Thread(target=self.use, args=[n]) for n in range(2)]
        for user in self.users:
            user.start()

    def stop(self) -> None:
        self._over.set()
        for user in getattr(self, "users", []):
            user.join()
        for web in self.webs:
            if web.process and web.process.poll() is None:
                os.killpg(web.process.pid, signal.SIGKILL)
                web.process.wait()

    def sign_in(self, member) -> None:
        browser = requests.Session()
        url = f"http://127.0.0.1:{self.webs[0].port}/login"
        headers = {"Host": host_of(self.tenant), "Accept": "text/html"}
        page = browser.get(url, headers=headers, timeout=10)
        csrf = page.text.split('name="csrfmiddlewaretoken" value="')[1].split('"')[0]
        form = {"email": member.email, "password": PASSWORD, "csrfmiddlewaretoken": csrf}
        cookies = {"csrf": page.cookies["csrf"]}
        answer = browser.post(
            url, data=form, headers=headers, cookies=cookies, allow_redirects=False, timeout=10
        )
        assert answer.status_code == 302, answer.text
        self.cookies = {"slipway": answer.cookies["slipway"]}
        for web in self.webs:
            self.once(f"http://127.0.0.1:{web.port}")

    def use(self, nth: int) -> None:
        """Now here, now there: a page that needs the session, the API with a key, and a write."""
        turn = nth
        while not self._over.is_set():
            turn += 1
            web = self.webs[turn % PLACES]
            if not web.in_turn.is_set():
                continue
            try:
                self.once(f"http://127.0.0.1:{web.port}")
            except Exception as error:
                self.failures.append(repr(error))
            self.served += 1
            time.sleep(PAUSE)

    def once(self, base: str) -> None:
        headers = {"Host": host_of(self.tenant), "Accept": "text/html"}
        page = requests.get(base, headers=headers, cookies=self.cookies, timeout=10)
        assert page.status_code == 200
        assert "Sign out" in page.text
        bearer = {"Authorization": f"Bearer {self.key}", "Host": "slipway.localhost"}
        found = requests.get(f"{base}/v1/endpoints", headers=bearer, timeout=10)
        assert found.status_code == 200, found.text
        # This one opens what is stored, and encrypts it again.
        one = f"{base}/v1/endpoints/{self.endpoint}"
        wish = {"headers": {"x-now": str(time.time())}}
        changed = requests.patch(one, json=wish, headers=bearer, timeout=10)
        assert changed.status_code == 200, changed.text

    def manage(self, *arguments: str) -> dict:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments, "--json"], cwd=ROOT, text=True,
            env=child_environment() | self.variables, capture_output=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def set(self, shown: dict[str, str]) -> None:
        """As the command says, with the keys that only the environment has; one by one."""
        now = child_environment() | self.variables
        there = {
            "<SECRET_KEY of now>": now["SECRET_KEY"],
            "<key 1 of SECRET_KEY_FALLBACKS of now>": now.get("SECRET_KEY_FALLBACKS", ""),
        }
        for name, value in shown.items():
            words = now.get(name, "").split(",")
            for n, word in enumerate(words, 1):
                value = value.replace(f"<key {n} of now>", word)
            for named, key in there.items():
                value = value.replace(named, key)
            assert "<" not in value
            self.variables[name] = value
        for web in self.webs:
            web.stop()
            web.start(self.variables)


@pytest.fixture
def deployment(tmp_path, tenant, settings) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path, tenant)
    # The command is not to write a file: these variables are somebody's.
    deployment.variables = {"PUBLIC_URL": "http://slipway.localhost:8000"}
    with tenant_context(tenant):
        endpoint = Endpoint.objects.create(
            url="https://a.test/", host="a.test:443",
            secrets=[
                {"secret": secrets.encrypt("whsec_a"), "made_at": "2026-01-01T00:00:00Z",
                 "expires_at": None}
            ],
        )  # fmt: skip
    deployment.endpoint = f"ep_{endpoint.pk}"
    try:
        deployment.start()
        yield deployment
    finally:
        deployment.stop()
        with connections["owner"].cursor() as cursor:
            install_context_key(cursor, settings.CONTEXT_KEY)
            drop_context_keys(cursor, keep=token.key_id(settings.CONTEXT_KEY))
            cursor.execute("delete from webhooks_endpoint where id = %s", [endpoint.pk])


@pytest.mark.parametrize("ring", ["sessions", "context", "stored", "claims"])
def test_no_request_fails_and_nobody_is_signed_out(deployment, ring):
    given = ("rotate-keys", ring, "--reason", f"a drill {uuid4()}")
    wait(lambda: deployment.served > 10, 30)
    while (step := deployment.manage(*given))["set"]:
        deployment.set(step["set"])
        if step["after"] == "used":
            break
    if ring != "context":
        deployment.manage(*given)  # What the old key holds is carried over.
    finished = deployment.manage(*given, "--finish", "--now")
    if finished["set"]:
        deployment.set(finished["set"])
    served = deployment.served
    wait(lambda: deployment.served > served + 10, 30)
    assert deployment.failures == []


def test_killed_while_it_carries_over_it_loses_nothing_and_is_called_again(
    tenant, kept, use, settings
):
    with tenant_context(tenant):
        Source.objects.bulk_create(
            Source(name=uuid4().hex, url="https://a.test/", headers=secrets.encrypt('{"x": "d"}'))
            for _ in range(1200)
        )
    total = stored_rings.count_by_key().total()
    turned_twice("stored", use)
    keys = {"STORED_SECRET_KEYS": ",".join(settings.STORED_SECRET_KEYS)}
    command = [sys.executable, "manage.py", "rotate-keys", "stored", "--reason", "a drill"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=child_environment() | keys, stdout=subprocess.DEVNULL
    )
    wait(lambda: stored_rings.count_by_key()[0] > 0 or process.poll() is not None, 60)
    process.kill()
    process.wait()
    between = stored_rings.count_by_key()
    assert between[0] > 0 and between[1] > 0  # noqa: PT018 - In the middle.
    assert (between[None], between.total()) == (0, total)
    with pytest.raises(Unfinished):
        rings.ring("stored").finish(**BY, now=True)
    subprocess.run(
        command, cwd=ROOT, env=child_environment() | keys, check=True, capture_output=True
    )
    assert stored_rings.count_by_key() == {0: total}
