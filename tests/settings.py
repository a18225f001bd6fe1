"""The settings of the tests: Slipway's own, on servers of the tests' own.

SLIPWAY_TEST_DIR names the directory of this run; the first process of the run makes it, and workers
and child processes inherit it. Each pytest worker has a database and a Valkey to itself.
"""

import os
import tempfile
from pathlib import Path

RUN_DIR = Path(os.environ.setdefault("SLIPWAY_TEST_DIR", tempfile.mkdtemp(prefix="slipway-test-")))
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")
# The tests decide all of it: a variable of whoever runs them must not lead them to real data.
WORKER_DIR = RUN_DIR / WORKER
DATABASE_NAME = f"slipway_{WORKER}"
TEMPLATE_NAME = "slipway_template"

if "SLIPWAY_TEST_CHILD" not in os.environ:
    from config.embedded import Postgres, Valkey

    # Workers, their pools and the processes that they start come to more than a hundred.
    postgres = Postgres(RUN_DIR / "postgres", durable=False, settings={"max_connections": "400"})
    os.environ |= {
        "SLIPWAY_STATE_DIR": str(WORKER_DIR),
        "DATABASE_URL": postgres.conninfo(DATABASE_NAME, "slipway_app"),
        "OPERATOR_DATABASE_URL": postgres.conninfo(DATABASE_NAME, "slipway_operator"),
        "OWNER_DATABASE_URL": postgres.conninfo(DATABASE_NAME, "slipway_owner"),
        "REDIS_URL": Valkey(WORKER_DIR / "valkey").url,
        "SECRET_KEY": "only-for-tests-" + "s" * 40,
        "CONTEXT_KEY": "only-for-tests-" + "c" * 40,
        "STORED_SECRET_KEYS": "dGVzdHMtb25seS10ZXN0cy1vbmx5LXRlc3RzLW9ubHk=",
        "CLAIM_KEYS": "only-for-tests-" + "k" * 40,
        "PUBLIC_URL": "http://slipway.localhost:8000",
        "TENANT_DOMAIN": "slipway.localhost",
        "DEBUG": "false",
    }
    for name in (
        "EMAIL_URL",
        "TENANT_STORAGE_BACKEND",
        "TENANT_STORAGE_OPTIONS",
        "SLIPWAY_BROKER",
        "WEBHOOK_OPEN_DESTINATIONS",
        "SANDBOX_PORT",
    ):
        os.environ.pop(name, None)

from config.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.MD5PasswordHasher"
]  # Fast; nothing here is secret.

# A file is looked for when it is asked for. Else each test's client, which sets up all middleware,
# reads every file first: two fifths of the CPU that the tests of the API took.
WHITENOISE_AUTOREFRESH = True

# Tables that know of nothing but isolation.
SHARED_APPS = [*SHARED_APPS, "tests.notes", "tests.works"]  # noqa: F405
INSTALLED_APPS = [*SHARED_APPS, *TENANT_APPS]  # noqa: F405

# Queues and kinds whose steps do as they are told: tests/works.
SLIPWAY["QUEUES"] |= {  # noqa: F405
    "parcels": {
        "model": "works.Parcel",
        "step": "tests.works.steps.act",
        "undo": "tests.works.steps.undo",
        "policy": "tests.works.steps.QUICK",
        "undo_policy": "tests.works.steps.QUICK",
        "slots": 8,
        "deadline": 5.0,
    },
    "telegrams": {
        "model": "works.Telegram",
        "step": "tests.works.steps.act_async",
        "policy": "tests.works.steps.QUICK",
        "slots": 8,
        "deadline": 60.0,
    },
    "missives": {
        "model": "works.Missive",
        "step": "tests.works.steps.act_async",
        "policy": "tests.works.steps.QUICK",
        "breaker": "tests.jobs.watching.BREAKER",
        "notice": "notice",
        "pace": "tests.works.steps.pace_of",
        "slots": 64,
        "lane_window": None,
        "tenant_window": 48,
        "deadline": 5.0,
    },
}
SLIPWAY["JOBS"] |= {  # noqa: F405
    "act": {"step": "tests.works.steps.act", "policy": "tests.works.steps.QUICK"},
    "act_async": {"step": "tests.works.steps.act_async", "policy": "tests.works.steps.QUICK"},
    "act_patiently": {"step": "tests.works.steps.act", "policy": "tests.works.steps.PATIENT"},
    "notice": {"step": "tests.works.steps.hear", "policy": "tests.works.steps.QUICK"},
}
