"""S3 and SMTP that hang for 30 seconds: who waits, and who does not."""

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from django.db import connections

from jobs.outcomes import Retry, Succeeded
from jobs.registry import queue
from onboarding import files, steps
from tests.conftest import ROOT, child_environment
from tests.onboarding import world
from tests.onboarding.bucket import BACKEND, BUCKET, s3
from tests.onboarding.hands import take

HANGING = 6  # Tenants whose S3, and as many whose mail, never answers.


@pytest.fixture(scope="module")
def bucket():
    with s3() as server:
        yield server


@pytest.fixture
def in_bucket(bucket, settings):
    settings.STORAGES = settings.STORAGES | {
        "tenants": {"BACKEND": BACKEND, "OPTIONS": bucket.options}
    }
    yield bucket
    bucket.hang_for.clear()


def keys_in(bucket, tenant_id: int) -> list[str]:
    listing = files.storage().bucket.objects.filter(Prefix=f"t_{tenant_id}/")
    return [found.key for found in listing]


# ---- S3, step by step ----


def test_it_provisions_in_a_bucket_and_undoes_it_there(platform, operator, in_bucket):
    accepted = platform.sign_up()
    tenant_id = world.provision(operator, accepted)
    assert keys_in(in_bucket, tenant_id) == [f"t_{tenant_id}/.slipway"]
    files.storage().bucket.put_object(Key=f"t_{tenant_id}/a/b.txt", Body=b"theirs")

    claim = take(operator, world.request_id_of(accepted), discarding=True)
    assert steps.undo(claim) == Succeeded()
    assert keys_in(in_bucket, tenant_id) == []
    assert BUCKET in str(files.storage().bucket)


def test_it_gives_up_on_a_hanging_bucket_long_before_the_steps_deadline(
    platform, operator, in_bucket, monkeypatch
):
    monkeypatch.setattr("tenants.files.READ_SECONDS", 0.5)
    claim = take(operator, world.request_id_of(platform.sign_up()))
    in_bucket.hang_for.add(f"t_{claim.tenant_id}")
    files.storage().is_bounded = False  # It was bounded with the real number.
    left = claim.deadline - time.monotonic()
    outcome = steps.run(claim)
    assert isinstance(outcome, Retry)
    assert outcome.error.startswith("storage: ReadTimeoutError")
    assert claim.deadline - time.monotonic() > left / 2


def test_a_step_that_hangs_holds_neither_a_connection_nor_a_transaction(
    platform, operator, superuser, in_bucket
):
    claim = take(operator, world.request_id_of(platform.sign_up()))
    in_bucket.hang_for.add(f"t_{claim.tenant_id}")
    before = in_bucket.hanging
    pool = connections["default"].pool
    connections.close_all()

    def held() -> int:
        stats = pool.get_stats()
        return stats["pool_size"] - stats["pool_available"]

    others = held()  # What threads of other tests have not given back.
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(steps.run, claim)
        wait_until(lambda: in_bucket.hanging > before)
        assert pool.get_stats()["pool_size"] > 0
        assert held() <= others
        open_ones = superuser.execute(
            "select count(*) from pg_stat_activity where datname = current_database()"
            " and usename like 'slipway%' and xact_start is not null"
        )
        assert open_ones.fetchone() == (0,)
        in_bucket.released.set()
        running.result(timeout=20)
    in_bucket.released.clear()


# ---- Together, with a drainer ----


@pytest.fixture
def drainer(bucket, operator):
    """A drainer process of its own, on the bucket and a mail server."""
    world.give_up_what_others_left(operator)
    with world.MailServer() as mail:
        environment = child_environment() | {
            "TENANT_STORAGE_BACKEND": BACKEND,
            "TENANT_STORAGE_OPTIONS": json.dumps(bucket.options),
            "EMAIL_URL": f"smtp://{mail.host}:{mail.port}",
        }
        process = subprocess.Popen(
            [sys.executable, "manage.py", "drain", "--grace", "1"], cwd=ROOT, env=environment
        )
        yield mail
        bucket.hang_for.clear()
        mail.released.set()
        bucket.released.set()
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.thorough
def test_what_hangs_moves_neither_accept_nor_another_tenants_way_to_ready(
    platform, operator, superuser, bucket, drainer
):
    mail = drainer
    assert queue("onboarding").slots / 4 < 2 * HANGING
    accept = [seconds_to_accept(platform) for _ in range(20)]
    wait_until(lambda: nothing_waits(operator), seconds=60)  # Each thread of it is warm now.
    ready = [seconds_to_ready(platform) for _ in range(3)]

    bucket.released.clear()
    mail.hang_for = "@hangs.example"
    hang_s3(platform, superuser, bucket)
    for _ in range(HANGING):
        platform.sign_up(email=f"{uuid4().hex}@hangs.example")
    wait_until(lambda: bucket.hanging >= HANGING and mail.waiting >= HANGING)

    ready_meanwhile = [seconds_to_ready(platform) for _ in range(3)]
    accept_meanwhile = [seconds_to_accept(platform) for _ in range(20)]
    assert mail.waiting >= 1, "nothing hung any more"
    idle = superuser.execute(
        "select count(*) from pg_stat_activity where datname = current_database()"
        " and state like 'idle in transaction%' and xact_start < now() - interval '1 second'"
    )
    assert idle.fetchone() == (0,)
    # Thirty seconds of hanging would show as seconds; a busy machine shows as less.
    assert max(ready_meanwhile) < 3 * max(ready) + 1
    assert max(accept_meanwhile) < 3 * max(accept) + 0.1


def nothing_waits(operator) -> bool:
    return not operator.execute(
        "select 1 from onboarding_pendingonboarding where state in ('pending', 'processing')"
    ).fetchall()


def hang_s3(platform, superuser, bucket) -> None:
    """Sign up tenants whose prefix hangs: their numbers are the next ones."""
    (last,) = superuser.execute("select last_value from tenants_tenant_id_seq").fetchone()
    bucket.hang_for |= {f"t_{last + n}" for n in range(1, HANGING + 1)}
    for _ in range(HANGING):
        platform.sign_up()


def seconds_to_ready(platform) -> float:
    began = time.monotonic()
    accepted = platform.sign_up()
    wait_until(lambda: platform.status(accepted).json()["status"] == "ready", every=0.01)
    return time.monotonic() - began


def seconds_to_accept(platform) -> float:
    began = time.perf_counter()
    assert platform.sign_up().status_code == 202
    return time.perf_counter() - began


def wait_until(condition, *, seconds: float = 25, every: float = 0.05) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(every)
