"""The Celery application: `celery -A config worker --pool=threads`, `celery -A config beat`.

A worker hosts the drainer (jobs.worker.DrainerStep), which does the work that waits in Postgres,
with the broker or without it. Celery's own tasks are the periodic ones below. Nothing is published
on a request's path: a publish costs half a millisecond.
"""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
# A worker that is started again must be quick; `manage.py prepare` and CI run the checks.
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")

from django.conf import settings

from config.redis import broker_url

app = Celery("slipway", task_cls="config.ran:Told")
app.conf.update(
    broker_url=broker_url(settings.REDIS_URL) if settings.BROKER == "redis" else "memory://",
    broker_transport_options={
        "socket_timeout": 5,
        "socket_connect_timeout": 2,
        "health_check_interval": 10,
    },
    # With these a worker outlives any outage of the broker, and one that starts in it waits it out.
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    accept_content=["json"],
    task_serializer="json",
    result_serializer="json",
    event_serializer="json",
    task_ignore_result=True,
    task_soft_time_limit=240,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    worker_send_task_events=False,
    enable_utc=True,
    timezone="UTC",
    # In memory: beat needs no disk, and each run makes up for the ones that were missed.
    beat_scheduler="celery.beat:Scheduler",
    beat_schedule=settings.SLIPWAY["BEAT"],
)
app.autodiscover_tasks()
app.steps["worker"].add("jobs.worker.DrainerStep")
