"""The sandbox as a test holds it: started, told what to do, asked what it accepted."""

import json
import subprocess
import sys
from typing import Any
from uuid import uuid4

import requests

from tests.conftest import ROOT


class Sandbox:
    """A handle on a running sandbox (campaigns.sandbox). Each test uses senders of its own."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "campaigns.sandbox", "--port", "0", *options],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.url = self.process.stdout.readline().split()[-1]
        self.session = requests.Session()
        self.session.trust_env = False

    @property
    def pair(self) -> tuple[str, int]:
        """As settings.WEBHOOK_OPEN_DESTINATIONS has it."""
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    def sender(self, **profile: Any) -> str:
        """A new one, treated like this; by itself it is answered at once."""
        sender = uuid4().hex
        self.set(sender, **({"latency": 0.0} | profile))
        return sender

    def set(self, sender: str, **profile: Any) -> None:
        """How a sender is treated from now on."""
        answer = self.session.put(f"{self.url}/control/accounts/{sender}", json=profile)
        assert answer.ok, answer.text

    def ledger(self, sender: str) -> dict[str, Any]:
        """What was accepted, counted, by key and by phone too."""
        return self.session.get(f"{self.url}/control/ledger?sender={sender}&detail=1").json()

    def lines(self, sender: str) -> list[dict[str, Any]]:
        """Each acceptance, in order."""
        answer = self.session.get(f"{self.url}/control/ledger.jsonl?sender={sender}")
        return [json.loads(line) for line in answer.text.splitlines()]

    def post(self, sender: str, *, bearer: str = "key", key: str = "", **message: Any) -> Any:
        """Send one message as anybody would: the answer, after five seconds at most."""
        key = key or uuid4().hex
        return self.session.post(
            f"{self.url}/v1/messages",
            json={"from": sender, "to": "+4930123456", "callback_data": key} | message,
            headers={"Authorization": f"Bearer {bearer}", "Idempotency-Key": key},
            timeout=5,
        )

    def forget(self, sender: str) -> None:
        """What came from a sender, and how it is treated."""
        assert self.session.post(f"{self.url}/control/reset?sender={sender}").ok

    def stop(self) -> int:
        """End it as `make up` does; its exit code."""
        self.session.close()
        self.process.terminate()
        return self.ended()

    def kill(self) -> None:
        self.session.close()
        self.process.kill()
        self.ended()

    def ended(self) -> int:
        code = self.process.wait(10)
        self.process.stdout.close()
        return code
