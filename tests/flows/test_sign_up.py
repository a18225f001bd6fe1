"""The whole way, as a stranger goes it: `make up`, the printed curl, the mail, the key."""

import json
import re

import requests

from tests.upping import wait


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
