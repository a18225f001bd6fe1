"""Somebody with a browser and a terminal, who has only what `make up` printed."""

import re
import shlex

import requests

from tests.upping import Up, wait

PASSWORD = "a slipway for every tenant"


class Stranger:
    """Asks the API and the pages as anybody could."""

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
