"""Sign two tenants up, one of each home, and wait until they are ready and greeted loudly.

Run as a process in whose settings the extension is; a drainer runs beside it. Prints what is there.
"""

import json
import sys
import time
import uuid

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402
from django.test import Client  # noqa: E402

from tests.people import bearer, platform_key  # noqa: E402

DEADLINE = time.monotonic() + 60
LOUD = "select home, schema_name, t.id from tenants_tenant t where slug = %s"


def sign_up(plan: str) -> str:
    body = {"email": f"{uuid.uuid4().hex}@b.example", "tenant_name": "Acme", "plan": plan}
    answer = Client().post(
        "/v1/onboard", json.dumps(body), content_type="application/json", headers=KEY
    )
    assert answer.status_code == 202, answer.content
    return answer.json()["request_id"]


def ready(request_id: str) -> dict:
    while time.monotonic() < DEADLINE:
        status = Client().get(f"/v1/onboard/{request_id}", headers=KEY).json()
        if status["status"] == "ready":
            return status
        time.sleep(0.05)
    raise SystemExit(f"Not ready: {status}")


def greetings(slug: str) -> tuple[str, list[list]]:
    """Where the tenant lives, and the greetings in its schema, once they are loud."""
    with connections["operator"].cursor() as cursor:
        cursor.execute(LOUD, [slug])
        home, schema, number = cursor.fetchone()
        table = f"{'pool' if home == 'pooled' else schema}.greetings_greeting"
        while time.monotonic() < DEADLINE:
            cursor.execute(f"select text from {table} where tenant_id = %s", [number])
            rows = cursor.fetchall()
            if rows == [("HELLO ACME",)]:
                return table, rows
            time.sleep(0.05)
    raise SystemExit(f"Not loud: {rows}")


call_command("check", databases=["operator"], tags=["database"], stdout=sys.stderr)
KEY = bearer(platform_key())
found = {}
for request_id in [sign_up("free"), sign_up("pro")]:
    told = ready(request_id)
    assert {"name": "greeting", "state": "done"} in told["steps"], told
    table, rows = greetings(told["tenant"]["slug"])
    found[table] = rows
json.dump(found, sys.stdout)
