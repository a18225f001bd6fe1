"""The bare client: the requests that a drainer sends, by the same client, with no database.

`python -m benchmarks.posting '{"urls": […], "count": 10000, "in_flight": 400}'` prints the seconds
that it took and its CPU's, as JSON.
"""

import asyncio
import json
import sys
import time
from datetime import UTC, datetime

import django
import orjson
import uvloop

from config.ids import uuid7
from jobs.engine import interpreter


async def run(urls: list[str], count: int, in_flight: int) -> dict[str, float]:
    from benchmarks.crowd import DATA
    from webhooks import exchange, http, secrets

    stored = [{"secret": secrets.encrypt(secrets.make()), "expires_at": None}]
    data = {
        "type": "invoice.paid",
        "happened_at": datetime.now(UTC),
        "payload": orjson.dumps(DATA).decode(),
        "secrets": orjson.dumps(stored).decode(),
        "custom_headers": "",
    }
    left = iter(range(count))

    async def sender() -> None:
        for number in left:
            named = {**data, "url": urls[number % len(urls)], "event_id": uuid7()}
            sent = exchange.request(named, now=time.time())
            answer = await http.post(
                url=sent.url, body=sent.body, headers=sent.headers, timeout=15.0
            )
            assert answer.ok

    began, spent = time.perf_counter(), time.process_time()
    await asyncio.gather(*(sender() for _ in range(in_flight)))
    took = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - spent}
    await http.close()
    return took


if __name__ == "__main__":
    django.setup()
    interpreter.prepare()  # As a drainer does.
    print(json.dumps(uvloop.run(run(**json.loads(sys.argv[1])))))
