"""Log lines as JSON, one a line on standard error, each with the ids of what it is about.

`request_id` is bound for each request here; `tenant`, `work` and `attempt` by those who enter them
(`structlog.contextvars.bind_contextvars`). Every logger of the standard library gets the same form.
"""

import logging
import logging.config
import re
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any
from uuid import uuid4

import orjson
import structlog
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from structlog.typing import EventDict, Processor

REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
SECRET_PATH = re.compile(r"(?<=/activate/)[^\s'\"]+")  # What follows is a token.
SECRETS = re.compile(r"(?i)password|secret|token|authorization|cookie|api_?key|signature")

_request_id: ContextVar[str] = ContextVar("request_id", default="")
_log = structlog.get_logger(__name__)


def request_id() -> str:
    """The id of the request that runs now; "" outside requests."""
    return _request_id.get()


def adopt_request_id(offered: str | None) -> str:
    """Begin a request in the logs: take the id that came with it, or make one."""
    taken = offered if offered and REQUEST_ID.fullmatch(offered) else uuid4().hex
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=taken)
    _request_id.set(taken)
    return taken


class RequestIdMiddleware:
    """Gives each request its id (`X-Request-ID`, in and out) and writes what came of it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = time.monotonic()
        taken = adopt_request_id(request.META.get("HTTP_X_REQUEST_ID"))
        request.request_id = taken  # type: ignore[attr-defined]
        response = self._get_response(request)
        response["X-Request-ID"] = taken
        _write_line(request, response, time.monotonic() - started)
        return response

    def process_exception(
        self, request: HttpRequest, exception: Exception
    ) -> HttpResponseBase | None:
        """A Problem that a plain Django view raises is an answer, as it is in the API."""
        from config.problems import Problem, problem_response  # It imports this module.

        return problem_response(exception, request) if isinstance(exception, Problem) else None


def _write_line(request: HttpRequest, response: HttpResponseBase, seconds: float) -> None:
    """One line a request: failures of ours loudly, the rest for those who ask for it.

    An answer that says when to come again was meant: a set-up page is a 503, and no failure.
    """
    status = response.status_code
    failed = status >= 500 and "Retry-After" not in response.headers
    level = logging.WARNING if failed else logging.DEBUG
    if _log.isEnabledFor(level):
        method, path = request.method, SECRET_PATH.sub("…", request.path)[:500]
        _log.log(level, "request", method=method, path=path, status=status, ms=_ms(seconds))


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def configure(config: dict[str, Any]) -> None:
    """Set logging up. Django calls it with settings.LOGGING: {"level": …}."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        hide_secrets,
    ]
    logging.config.dictConfig(_standard_library(shared, config.get("level", "INFO")))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def hide_secrets(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Whatever is called like a secret is not written: a slip must not fill a log with keys."""
    for name, value in event.items():
        if SECRETS.search(name):
            event[name] = "[hidden]"
        elif name in {"event", "message", "request", "path"}:  # Django names the path it refuses.
            event[name] = SECRET_PATH.sub("…", str(value))
    return event


def _standard_library(shared: list[Processor], level: str) -> dict[str, Any]:
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": shared,
        "processors": [
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(serializer=_to_json),
        ],
    }
    handler = {"class": "logging.StreamHandler", "formatter": "json", "stream": sys.stderr}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": formatter},
        "handlers": {"stderr": handler},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "django": {"level": "INFO", "handlers": [], "propagate": True},
            "django.server": {"level": "INFO", "handlers": [], "propagate": True},
            # A 404 is the client's business; ours are the 5xx, which come as errors.
            "django.request": {"level": "ERROR"},
        },
    }


def _to_json(event: EventDict, default: Callable[[Any], Any], **_options: Any) -> str:
    return orjson.dumps(event, default=default, option=orjson.OPT_NON_STR_KEYS).decode()
