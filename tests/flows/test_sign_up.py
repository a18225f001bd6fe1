"""The whole way, as a stranger goes it: `make up`, the printed curl, the mail, the key."""

import json
import re
import shlex

import pytest
import requests

from tests.upping import Up, up, wait

__all__ = ["up"]  # A fixture.

PASSWORD = "a slipway for every tenant"


class Stranger:
    """Somebody with a browser and a terminal, who has only what `make up` printed."""

    def __init__(self, running: Up) -> None:
        self.running = running
        self.browser = requests.Session()

    def run_printed_curl(self) -> requests.Response:
        (line,) = [one for one in self.running.said().splitlines() if "curl -i" in one]
        words = shlex.split(line)
        name, _, value = words[words.index("-H") + 1].partition(": ")
        body = words[words.index("-d") + 1]
        return requests.post(words[2], data=body, headers={name: value}, timeout=10)

    def sign_up(self, **fields: str) -> dict:
        """As the platform's back end does, with the printed key."""
        answer = requests.post(
            f"http://127.0.0.1:{self.running.port}/v1/onboard",
            json=fields,
            headers={"Authorization": f"Bearer {self.platform_key}"},
            timeout=10,
        )
        assert answer.status_code == 202
        return answer.json()

    @property
    def platform_key(self) -> str:
        return (self.running.state / "platform-key").read_text().strip()

    def wait_ready(self, accepted: dict) -> dict:
        seen: list[dict] = []

        def is_ready() -> bool:
            seen.append(requests.get(accepted["status_url"], timeout=10).json())
            return seen[-1]["status"] == "ready"

        wait(is_ready, 60)
        return seen[-1]

    def visit(self, url: str, **options: object) -> requests.Response:
        """*.localhost is this machine, in browsers; here the Host header says so."""
        host = url.split("/")[2]
        local = url.replace(host, f"127.0.0.1:{self.running.port}")
        return self.browser.get(local, headers={"Host": host, "Accept": "text/html"}, **options)

    def mail_to(self, address: str) -> str:
        mails = [file.read_text() for file in (self.running.state / "mail").iterdir()]
        (mail,) = [mail for mail in mails if f"To: {address}" in mail]
        return mail

    def activate(self, link: str) -> requests.Response:
        form = self.browser.get(link, timeout=10).text
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)[1]
        fields = {"csrfmiddlewaretoken": token, "password": PASSWORD, "again": PASSWORD}
        return self.browser.post(link, data=fields, headers={"Referer": link}, timeout=10)

    def claim(self, accepted: dict) -> requests.Response:
        return requests.post(
            f"{accepted['status_url']}/claim",
            headers={"Authorization": f"Bearer {accepted['claim_token']}"},
            timeout=10,
        )

    def customers(self, key: str) -> list[str]:
        answer = requests.get(
            f"http://127.0.0.1:{self.running.port}/v1/customers",
            headers={"Authorization": f"Bearer {key}"},
            timeout=10,
        )
        assert answer.status_code == 200
        return [customer["name"] for customer in answer.json()["data"]]

    def add_customer(self, key: str, name: str) -> None:
        answer = requests.post(
            f"http://127.0.0.1:{self.running.port}/v1/customers",
            json={"external_id": "c-1", "name": name},
            headers={"Authorization": f"Bearer {key}"},
            timeout=10,
        )
        assert answer.status_code == 201


@pytest.fixture
def stranger(up) -> Stranger:
    running = up()
    running.wait_ready()
    return Stranger(running)


def test_a_stranger_signs_up_watches_it_become_ready_and_gets_a_key_to_its_own_rows(stranger):
    answer = stranger.run_printed_curl()
    assert answer.status_code == 202
    pooled = answer.json()
    ready = stranger.wait_ready(pooled)
    assert {step["state"] for step in ready["steps"]} == {"done"}
    page = stranger.visit(pooled["tenant"]["url"])
    assert page.status_code == 200
    assert "Acme" in page.text

    # A stranger's key waits for the owner; the owner's mail is there and its link works once.
    early = stranger.claim(pooled)
    assert (early.status_code, early.json()["code"]) == (409, "not_activated")
    (link,) = set(re.findall(r"http://\S+/activate/[\w:-]+", stranger.mail_to("ada@example.com")))
    assert stranger.activate(link).status_code == 200
    assert stranger.browser.get(link, timeout=10).status_code == 410
    claimed = stranger.claim(pooled)
    assert claimed.status_code == 201
    key = claimed.json()["key"]

    # A dedicated tenant, by the platform's key: claimed at once.
    dedicated = stranger.sign_up(email="bo@example.com", tenant_name="Bolt", plan="pro")
    stranger.wait_ready(dedicated)
    other = stranger.claim(dedicated).json()["key"]

    stranger.add_customer(key, "Zoe of Acme")
    stranger.add_customer(other, "Yan of Bolt")
    assert stranger.customers(key) == ["Zoe of Acme"]
    assert stranger.customers(other) == ["Yan of Bolt"]


def test_the_address_turns_from_the_set_up_page_into_the_tenants_own(stranger):
    accepted = stranger.sign_up(email="cy@example.com", tenant_name="Cyan", plan="pro")
    seen: list[int] = []

    def is_open() -> bool:
        page = stranger.visit(accepted["tenant"]["url"])
        seen.append(page.status_code)
        if page.status_code == 503:
            assert "Setting up" in page.text
            assert page.headers["Cache-Control"] == "no-store"
            assert int(page.headers["Retry-After"]) >= 1
        return page.status_code == 200

    wait(is_open, 60)
    assert seen[0] == 503  # Nobody was ever told that the address does not exist.
    assert set(seen) == {503, 200}
    events = requests.get(accepted["events_url"], stream=True, timeout=10)
    told = []
    for line in events.iter_lines(decode_unicode=True):
        if line.startswith("data: "):
            told.append(json.loads(line.removeprefix("data: ")))
        if told and told[-1].get("status") == "ready":
            break
    assert told[-1]["tenant"]["slug"] == accepted["tenant"]["slug"]
