"""Log lines are JSON, know what they are about, and hold no secrets."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from django.http import HttpResponse
from django.test import RequestFactory

from config import logs
from config.problems import NotFoundProblem

WRITE = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django
django.setup()
import logging, structlog
from config import logs
logs.adopt_request_id("req-1")
structlog.contextvars.bind_contextvars(tenant="t1", work="w1", attempt=2)
structlog.get_logger("a").info("one\\nline", password="hunter2", claim_token="hunter2", n=1)
logging.getLogger("b").warning("two %s", "words", extra={"api_key": "hunter2"})
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("c").exception("three")
"""


def written() -> list[dict]:
    from tests.conftest import child_environment

    done = subprocess.run(
        [sys.executable, "-c", WRITE],
        cwd=Path(__file__).parents[2],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "hunter2" not in done.stderr
    return [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]


def test_every_line_is_json_with_the_ids_of_what_it_is_about():
    lines = written()
    assert [line["event"] for line in lines] == ["one\nline", "two words", "three"]
    for line in lines:
        assert line["request_id"] == "req-1"
        assert (line["tenant"], line["work"], line["attempt"]) == ("t1", "w1", 2)
        assert {"timestamp", "level", "logger"} <= set(line)
    assert lines[0]["password"] == lines[0]["claim_token"] == lines[1]["api_key"] == "[hidden]"
    assert "ZeroDivisionError" in lines[2]["exception"]


def respond(request, answer=lambda request: HttpResponse("ok")):
    return logs.RequestIdMiddleware(answer)(request)


def test_a_request_id_that_comes_in_goes_out():
    response = respond(RequestFactory().get("/", headers={"X-Request-ID": "Abc-123"}))
    assert response["X-Request-ID"] == "Abc-123"


@pytest.mark.parametrize("offered", ["", "a b", "x" * 65, "a\r\nSet-Cookie: b", "é", "a_b"])
def test_a_request_id_that_could_do_harm_is_replaced(offered):
    request = RequestFactory().get("/")
    request.META["HTTP_X_REQUEST_ID"] = offered
    given = respond(request)["X-Request-ID"]
    assert given != offered
    assert logs.REQUEST_ID.fullmatch(given)


def test_the_id_is_there_while_the_request_runs():
    seen = []
    respond(
        RequestFactory().get("/", headers={"X-Request-ID": "r-9"}),
        lambda request: HttpResponse(seen.append((request.request_id, logs.request_id()))),
    )
    assert seen == [("r-9", "r-9")]


def test_a_problem_that_a_plain_view_raises_is_an_answer(client):
    middleware = logs.RequestIdMiddleware(lambda request: HttpResponse())
    response = middleware.process_exception(RequestFactory().get("/v1/x"), NotFoundProblem())
    assert response.status_code == 404
    assert middleware.process_exception(RequestFactory().get("/"), ValueError()) is None


def test_a_failure_of_ours_is_written_and_what_goes_well_is_not(caplog):
    with caplog.at_level(logging.INFO):
        respond(RequestFactory().get("/well"))
        respond(RequestFactory().get("/badly"), lambda request: HttpResponse(status=500))
    told = [str(record.msg) for record in caplog.records]
    assert any("/badly" in line for line in told)
    assert not any("/well" in line for line in told)
