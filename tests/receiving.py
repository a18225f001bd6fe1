"""The receiver as a test holds it: started, asked, told what to do."""

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import requests

ROOT = Path(__file__).parent.parent


class Receiver:
    """A handle on a running receiver process (tests/receiver.py)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        ready = json.loads(process.stdout.readline())
        self.ports: dict[str, int] = ready["ports"]
        self.ca: str = ready["ca"]
        self.session = requests.Session()
        self.session.trust_env = False

    def url(self, token: str, behaviour: str = "ok", *arguments, port: str = "http") -> str:
        """Where a request has this behaviour; arguments are quoted."""
        scheme = "https" if port.startswith("tls") else "http"
        path = "/".join([behaviour, *(quote(str(argument), safe="") for argument in arguments)])
        return f"{scheme}://127.0.0.1:{self.ports[port]}/{token}/{path}"

    def new(self, behaviour: str = "ok", *arguments, port: str = "http") -> "Inbox":
        """A URL of one's own, and what comes there."""
        return Inbox(self, uuid4().hex, behaviour, arguments, port)

    def seen(self, token: str) -> list[dict]:
        """Every request with this token, in order."""
        return self.ask("GET", f"seen/{token}")

    def counts(self, token: str) -> dict[str, int]:
        """How often each webhook-id came."""
        return self.ask("GET", f"counts/{token}")

    def connections(self, port: str = "http") -> int:
        """How many connections a port has accepted."""
        return self.ask("GET", "connections").get(port, 0)

    def script(self, token: str, *behaviours: str) -> None:
        """What /<token>/scripted does from now on, one after the other; the last one stays."""
        self.ask("PUT", f"script/{token}", json=list(behaviours))

    def forget(self, token: str) -> int:
        """Forget what came, and tell how much it was."""
        return self.ask("DELETE", f"seen/{token}")

    def ask(self, method: str, path: str, **options):
        url = f"http://127.0.0.1:{self.ports['control']}/{path}"
        return self.session.request(method, url, timeout=60, **options).json()

    @property
    def pairs(self) -> list[tuple[str, int]]:
        """Its host:port pairs, as settings.WEBHOOK_OPEN_DESTINATIONS has them."""
        return [("127.0.0.1", port) for name, port in self.ports.items() if name != "control"]

    @property
    def tls(self) -> ssl.SSLContext:
        """A context that trusts its authority."""
        return ssl.create_default_context(cafile=self.ca)

    def stop(self) -> None:
        self.session.close()
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


class Inbox:
    """One token of a receiver."""

    def __init__(self, receiver: Receiver, token: str, behaviour: str, arguments, port: str):
        self.receiver = receiver
        self.token = token
        self.url = receiver.url(token, behaviour, *arguments, port=port)

    @property
    def seen(self) -> list[dict]:
        return self.receiver.seen(self.token)

    @property
    def counts(self) -> dict[str, int]:
        return self.receiver.counts(self.token)

    def at(self, behaviour: str, *arguments) -> str:
        """Another behaviour under the same token."""
        return self.receiver.url(self.token, behaviour, *arguments)


def start() -> Receiver:
    """Start a receiver; it ends with stop(), or when this process does."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.receiver"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return Receiver(process)


@contextmanager
def opened(receiver: Receiver) -> Iterator[Receiver]:
    """Let webhooks reach it, from this process and from those that it starts."""
    from django.conf import settings

    before = settings.WEBHOOK_OPEN_DESTINATIONS
    variable = os.environ.get("WEBHOOK_OPEN_DESTINATIONS")
    settings.WEBHOOK_OPEN_DESTINATIONS = [*before, *receiver.pairs]
    spelled = ",".join(f"{host}:{port}" for host, port in settings.WEBHOOK_OPEN_DESTINATIONS)
    os.environ["WEBHOOK_OPEN_DESTINATIONS"] = spelled
    try:
        yield receiver
    finally:
        settings.WEBHOOK_OPEN_DESTINATIONS = before
        os.environ.pop("WEBHOOK_OPEN_DESTINATIONS")
        if variable is not None:
            os.environ["WEBHOOK_OPEN_DESTINATIONS"] = variable
