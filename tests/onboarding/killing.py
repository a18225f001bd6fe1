"""A process that runs sign-ups and dies where it is told to.

Reads one order a line, {claim, step, when, undo}, and forks a child for each: the child breaks the
step at that place by SIGKILL of itself. Forking spares each child the start of Django; this process
opens no connection of its own.
"""

import json
import os
import signal
import sys
import uuid
from dataclasses import asdict
from datetime import datetime


def die(*args, **kwargs):
    """The end, without a word: no handler, no finally, no rollback of ours."""
    os.kill(os.getpid(), signal.SIGKILL)


def dies_after(function):
    def wrapped(*args, **kwargs):
        function(*args, **kwargs)
        die()

    return wrapped


def break_step(name: str, when: str) -> None:
    """Arrange for death before the effect of a step, in its midst, or before it is recorded."""
    from onboarding import steps

    step = steps.step_named(name)
    if when == "before":
        step.apply = die
    elif when == "after":
        step.apply = dies_after(step.apply)
    elif when == "recorded":
        step.after_commit = die
    elif when == "during":
        DURING.get(name, die_after_the_first_write)(step)
    elif when == "undo":
        step.undo = dies_after(step.undo)
    else:
        raise ValueError(when)


def die_after_the_first_write(step) -> None:
    """For steps on our own tables: between two statements of their transaction."""
    from django.db import connection

    apply = step.apply

    def applied(ctx):
        with connection.execute_wrapper(_die_after("insert into", "update")):
            apply(ctx)
        die()

    step.apply = applied


def die_in_migrations(step) -> None:
    """The schema is there, and some of its tables: this process never built one before."""
    from django.db import connections

    from tenants import blueprint

    blueprint._learnt.clear()
    connections["owner"].execute_wrappers.append(_die_after("create table"))


def die_with_half_a_file(step) -> None:
    from onboarding import files

    def save(name, content):
        path = files.storage().path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content.read()[:9])
            file.flush()
        die()

    files.storage().save = save


def die_before_the_cache_is_written(step) -> None:
    from tenants import hosts

    hosts._to_redis = die


def die_in_mid_mail(step) -> None:
    """The server has the whole mail; its answer finds nobody."""
    import smtplib

    getreply = smtplib.SMTP.getreply
    data = smtplib.SMTP.data

    def watched(self, message):
        self.getreply = lambda: getreply(self)
        replies = iter([getreply, dies_after(getreply)])  # To DATA, and to the final dot.
        self.getreply = lambda: next(replies)(self)
        return data(self, message)

    smtplib.SMTP.data = watched


DURING = {
    "schema": die_in_migrations,
    "storage": die_with_half_a_file,
    "cache": die_before_the_cache_is_written,
    "welcome": die_in_mid_mail,
}


def _die_after(*verbs: str):
    def wrapper(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if str(sql).lower().startswith(verbs):
            die()
        return result

    return wrapper


def as_order(claim, *, step: str, when: str, undo: bool = False) -> str:
    """One line for the process."""
    order = {"claim": asdict(claim), "step": step, "when": when, "undo": undo}
    return json.dumps(order, default=str)


def obey(line: str) -> None:
    """In the child: break the step, and run."""
    from jobs.steps import Claim
    from onboarding import steps

    order = json.loads(line)
    fields = order["claim"]
    fields |= {name: datetime.fromisoformat(fields[name]) for name in ("created_at", "started_at")}
    claim = Claim(**fields | {"id": uuid.UUID(fields["id"])})
    break_step(order["step"], order["when"])
    print(steps.undo(claim) if order["undo"] else steps.run(claim), file=sys.stderr)


def learn_how_schemas_are_built() -> None:
    """As a drainer that has been up for a while."""
    from django.db import connections

    from tenants import schemas

    name = f"t_{2**42 + os.getpid()}"
    schemas.ensure_schema(name)
    schemas.drop_schema(name)
    connections.close_all()


def main() -> None:
    import django

    django.setup()
    from onboarding import steps

    steps.all_steps()
    learn_how_schemas_are_built()
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                obey(line)
            finally:
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
