"""Webhooks as most projects begin them: one Celery task for each delivery, with requests.

The task reads the delivery, its event and its endpoint, signs, posts, and saves what came of it.

    celery -A benchmarks.one_task_each worker
    python -m benchmarks.one_task_each      enqueues a task for each delivery that waits
"""

import time

import django

django.setup()

import requests  # noqa: E402
from celery import Celery  # noqa: E402
from django.conf import settings  # noqa: E402
from django.db import connections  # noqa: E402
from django.utils import timezone  # noqa: E402
from standardwebhooks import Webhook  # noqa: E402

from config.ids import format_id  # noqa: E402
from config.redis import broker_url  # noqa: E402
from jobs.models import Attempt  # noqa: E402
from webhooks import secrets  # noqa: E402
from webhooks.exchange import envelope  # noqa: E402
from webhooks.models import Delivery  # noqa: E402

app = Celery("one_task_each", broker=broker_url(settings.REDIS_URL))
app.conf.update(
    task_default_queue="one_task_each", task_ignore_result=True, worker_hijack_root_logger=False
)


@app.task(bind=True, name="deliver", max_retries=9)
def deliver(self: object, number: str) -> None:
    """Deliver once; Celery would try again after a failure."""
    began = timezone.now()
    rows = Delivery.objects.using("operator").select_related("event", "endpoint")
    delivery = rows.get(pk=number)
    with connections["operator"].cursor() as cursor:
        cursor.execute("select data from webhooks_payload where event_id = %s", [delivery.event_id])
        payload = cursor.fetchone()[0]
    event = {"type": delivery.event.type, "happened_at": delivery.event.created_at}
    body = envelope({**event, "payload": payload})
    name = format_id("evt", delivery.event_id)
    signature = Webhook(secrets.decrypt(delivery.endpoint.secrets[0]["secret"])).sign(
        name, began, body.decode()
    )
    headers = {
        "content-type": "application/json",
        "webhook-id": name,
        "webhook-timestamp": str(int(began.timestamp())),
        "webhook-signature": signature,
    }
    response = requests.post(delivery.endpoint.url, data=body, headers=headers, timeout=(3, 15))
    response.raise_for_status()
    delivery.state, delivery.attempts, delivery.finished_at = "succeeded", 1, timezone.now()
    delivery.save(using="operator", update_fields=["state", "attempts", "finished_at"])
    Attempt.objects.using("operator").create(
        tenant_id=delivery.tenant_id, queue="deliveries", work_id=delivery.pk, number=1,
        started_at=began, duration_ms=int((timezone.now() - began).total_seconds() * 1000),
        outcome="succeeded", drainer=0, request={"headers": headers},
        response={"status": response.status_code, "body": response.text},
    )  # fmt: skip


if __name__ == "__main__":
    waiting = Delivery.objects.using("operator").filter(state="pending")
    for pk in waiting.values_list("pk", flat=True):
        deliver.delay(str(pk))
    print(time.time())
