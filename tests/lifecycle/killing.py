"""A process that does a job and dies in its midst: no handler, no finally, no rollback.

Reads one order a line, {claim, after}, and forks a child for each; says how the child ended. It
dies after so many statements; with 0, when half of a file is stored.
Forking spares each child the start of Django; this process opens no connection of its own.
"""

import json
import os
import signal
import subprocess
import sys
import uuid
from dataclasses import asdict
from datetime import datetime

from tests.conftest import ROOT, child_environment


class Killer:
    """The process, from a test's side."""

    def __enter__(self) -> "Killer":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.lifecycle.killing"],
            cwd=ROOT, env=child_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        return self

    def __exit__(self, *exc_info) -> None:
        self._process.stdin.close()
        self._process.wait(30)

    def dies(self, claim, *, after: int) -> bool:
        """Have the job done; whether it was killed before the end."""
        order = {"claim": asdict(claim), "after": after}
        self._process.stdin.write(json.dumps(order, default=str) + "\n")
        self._process.stdin.flush()
        ended = self._process.stdout.readline().strip()
        assert ended in {"killed", "done"}, ended
        return ended == "killed"


def obey(line: str) -> None:
    """In the child: do it, and die after so many statements of the operator's and the owner's."""
    from django.db import connections

    from jobs.outcomes import Succeeded
    from jobs.registry import kind
    from jobs.steps import Claim
    from lifecycle import purging
    from tenants import files

    order = json.loads(line)
    fields = order["claim"]
    fields |= {name: datetime.fromisoformat(fields[name]) for name in ("created_at", "started_at")}
    fields["id"] = uuid.UUID(fields["id"])
    left = [order["after"]]

    def dying(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    def save(name, content):
        path = files.storage().path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content.read(99))
        os.kill(os.getpid(), signal.SIGKILL)

    purging.SETTLING = 0.0
    if not left[0]:
        files.storage().save = save
    for alias in ("operator", "owner"):
        connections[alias].execute_wrappers.append(dying)
    claim = Claim(**fields)
    outcome = kind(claim.data["kind"]).step(claim)
    assert outcome == Succeeded(), outcome


def main() -> None:
    import django

    django.setup()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            try:
                obey(line)
                os._exit(0)
            except BaseException as error:
                sys.stderr.write(f"{type(error).__name__}: {error}\n")
                os._exit(1)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status)
        print("killed" if killed else "done" if not status else "failed", flush=True)


if __name__ == "__main__":
    main()
