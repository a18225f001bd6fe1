"""What a tenant is told, as a stranger sees it: `make up`, an endpoint, `webhooks listen`."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import requests

from tests.upping import ROOT, Up, wait


class Caller:
    """Asks the API with one key."""

    def __init__(self, running: Up, key: str, **headers: str) -> None:
        self.base = f"http://127.0.0.1:{running.port}/v1"
        self.headers = {"Authorization": f"Bearer {key}", **headers}

    def get(self, path: str) -> dict:
        answer = requests.get(f"{self.base}{path}", headers=self.headers, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, **fields: object) -> dict:
        answer = requests.post(f"{self.base}{path}", json=fields, headers=self.headers, timeout=10)
        assert answer.status_code in (201, 202), answer.text
        return answer.json()


def environment(running: Up) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "SLIPWAY_STATE_DIR": str(running.state)}


@contextmanager
def listening(running: Up, port: int, secret: str) -> Iterator[Callable[[], list]]:
    """`webhooks listen` as a process; call it for what it printed: path, webhook-id, verdict."""
    heard = running.state.parent / "heard"
    with heard.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, *f"manage.py webhooks listen --port {port} --secret".split(), secret],
            cwd=ROOT,
            env=environment(running),
            stdout=out,
        )
        try:
            wait(lambda: "listening on" in heard.read_text())
            yield lambda: [
                tuple(line.split(maxsplit=3)[1:])
                for line in heard.read_text().splitlines()[1:]
                if not line.startswith(" ")
            ]
        finally:
            process.kill()
            process.wait()


def replay(running: Up, *options: str) -> dict:
    done = subprocess.run(
        [sys.executable, "manage.py", "replay", "deliveries", *options, "--yes", "--json"],
        cwd=ROOT,
        env=environment(running),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_tenant_is_told_waits_for_its_receiver_to_come_back_and_is_told_again(
    running, stranger, receiver_port
):
    port = receiver_port
    accepted = stranger.sign_up(email="eve@example.com", tenant_name="Emporium", plan="free")
    stranger.wait_ready(accepted)
    acme = Caller(running, stranger.claim(accepted).json()["key"])
    ours = Caller(running, stranger.platform_key)
    for_acme = Caller(running, stranger.platform_key, **{"Slipway-Tenant": "emporium"})

    receiver = f"http://127.0.0.1:{port}"
    wanted = {"event_types": ["invoice.*"], "schedule": [1]}
    secret = acme.post("/endpoints", url=f"{receiver}/acme", **wanted)["secret"]
    with listening(running, port, secret) as heard:
        event = for_acme.post("/events", type="invoice.paid", data={"amount": 12})
        arrived = ("/acme", event["id"], "verified")
        wait(lambda: heard() == [arrived], 20)

        # The platform hears of everybody's; of its own listeners too.
        ours.post(
            "/platform/endpoints",
            url=f"{receiver}/platform",
            event_types=["tenant.ready"],
            secret=secret,
        )
        fable = stranger.sign_up(email="fay@example.com", tenant_name="Fable", plan="pro")
        stranger.wait_ready(fable)
        wait(lambda: len(heard()) == 2, 20)
        [told, *_] = ours.get("/platform/events?type=tenant.ready")["data"]
        assert heard() == [arrived, ("/platform", told["id"], "verified")]
        said = ours.get(f"/platform/events/{told['id']}")["data"]
        assert said["slug"] == "fable", said

    # Nobody listens: it waits, then is dead, and each try is there to be read.
    missed = for_acme.post("/events", type="invoice.paid", data={"amount": 13})

    def delivery() -> dict:
        (found,) = acme.get(f"/deliveries?event={missed['id']}")["data"]
        return found

    def attempts() -> list[tuple[int, str]]:
        made = acme.get(f"/deliveries/{delivery()['id']}/attempts")["data"]
        return sorted((one["number"], one["outcome"]) for one in made)

    wait(lambda: delivery()["state"] == "dead_letter", 20)
    assert "refused the connection" in delivery()["last_error"]
    assert attempts() == [(1, "retry"), (2, "failed")]

    with listening(running, port, secret) as heard:
        again = ("/acme", missed["id"], "verified")
        assert replay(running, "--tenant", "emporium", "--reason", "it listens again")["found"] == 1
        wait(lambda: heard() == [again], 20)
        wait(lambda: delivery()["state"] == "succeeded", 20)
        acme.post(f"/deliveries/{delivery()['id']}/replay", reason="once more")
        wait(lambda: heard() == [again, again], 20)
        wait(lambda: len(attempts()) == 4, 20)
    assert attempts()[2:] == [(3, "succeeded"), (4, "succeeded")]
