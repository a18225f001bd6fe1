"""Errors as the API tells them: RFC 9457 problem details.

A problem is a class: its docstring is the title that callers read, `code` is what their programs
compare, `status` is the HTTP status. Raise it anywhere below a view.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import orjson
import psycopg
import structlog
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from rest_framework import exceptions as drf
from rest_framework.settings import api_settings

from config import logs

CONTENT_TYPE = "application/problem+json"
API_PATH = "/v1/"

_log = structlog.get_logger(__name__)


class FieldError(NamedTuple):
    """One thing that is wrong with one field of a request's body."""

    pointer: str  # RFC 6901: "/tenant_name".
    code: str
    message: str


class Problem(Exception):
    """Something went wrong."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(
        self,
        detail: str = "",
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail or self.title())
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})
        self.extra = extra

    @classmethod
    def title(cls) -> str:
        """The first line of the docstring."""
        return (cls.__doc__ or Problem.__doc__ or "").strip().partition("\n")[0]

    def body(self, trace_id: str) -> dict[str, Any]:
        """The members of the problem document."""
        body: dict[str, Any] = {
            "type": f"urn:slipway:problem:{self.code}",
            "title": self.title(),
            "status": self.status,
            "code": self.code,
            "trace_id": trace_id,
            **self.extra,
        }
        if self.detail:
            body["detail"] = self.detail
        if self.errors:
            body["errors"] = [error._asdict() for error in self.errors]
        return body


class BadRequest(Problem):
    """The request cannot be understood."""

    status = 400
    code = "bad_request"


class InvalidRequest(Problem):
    """The request has errors."""

    status = 400
    code = "invalid_request"


class Unauthorized(Problem):
    """This needs an API key."""

    status = 401
    code = "unauthorized"


class Forbidden(Problem):
    """This is not allowed."""

    status = 403
    code = "forbidden"


class NotFoundProblem(Problem):
    """There is no such thing."""

    status = 404
    code = "not_found"


class MethodNotAllowed(Problem):
    """This address does not take that method."""

    status = 405
    code = "method_not_allowed"


class Conflict(Problem):
    """This cannot be done in the present state."""

    status = 409
    code = "conflict"


class BodyTooLarge(Problem):
    """The request's body is too large."""

    status = 413
    code = "body_too_large"


class UnsupportedMediaType(Problem):
    """The request's body is of a type that is not taken here."""

    status = 415
    code = "unsupported_media_type"


class RateLimited(Problem):
    """Too many requests."""

    status = 429
    code = "rate_limited"


class Unavailable(Problem):
    """This is not available right now."""

    status = 503
    code = "unavailable"


class TenantMoving(Problem):
    """This tenant is moving to another home; what it writes is refused for a moment."""

    status = 503
    code = "tenant_moving"
    # What the database says where it refuses such a write: slipway.capture_move().
    SQLSTATE: ClassVar[str] = "SW001"


class TookTooLong(Problem):
    """This took the database longer than it may."""

    status = 503
    code = "took_too_long"


def problem_response(problem: Problem, request: HttpRequest) -> HttpResponse:
    """The problem as an answer: a page for a browser's visit, problem+json for all else."""
    trace_id = getattr(request, "request_id", "") or logs.request_id()
    body = problem.body(trace_id)
    if wants_page(request):
        response = render(request, "problem.html", body, status=problem.status)
    else:
        response = HttpResponse(
            orjson.dumps(body), status=problem.status, content_type=CONTENT_TYPE
        )
    response["Cache-Control"] = "no-store"
    for name, value in problem.headers.items():
        response[name] = value
    return response


def wants_page(request: HttpRequest) -> bool:
    """Whether a person looks at the answer in a browser."""
    return not request.path.startswith(API_PATH) and "text/html" in request.headers.get(
        "Accept", ""
    )


def exception_handler(exception: Exception, context: Mapping[str, Any]) -> HttpResponse | None:
    """DRF's hook: the answer to an exception; None lets a bug go on to Django's own."""
    problem = problem_of(exception)
    if problem is None:
        return None
    request = context["request"]
    return problem_response(problem, getattr(request, "_request", request))


def problem_of(exception: Exception) -> Problem | None:
    """The problem that an exception means to the caller; None for what should never happen."""
    match exception:
        case Problem():
            return exception
        case Http404() | drf.NotFound():
            return NotFoundProblem()
        case PermissionDenied() | drf.PermissionDenied():
            return Forbidden()
        case drf.NotAuthenticated() | drf.AuthenticationFailed():
            return Unauthorized(headers={"WWW-Authenticate": 'Bearer realm="slipway"'})
        case drf.ValidationError():
            return InvalidRequest(errors=list(_field_errors(exception.detail, "")))
        case drf.APIException():
            return _translated(exception)
        case DatabaseError() if is_moving(exception):
            return TenantMoving(headers={"Retry-After": "1"})
        case OperationalError(__cause__=psycopg.errors.QueryCanceled()):  # statement_timeout
            _log.error("The database took too long")
            return TookTooLong(headers={"Retry-After": "10"})
        case OperationalError() | InterfaceError():
            _log.error("The database does not answer", error=type(exception).__name__)
            return Unavailable(headers={"Retry-After": "2"})
    return None


def is_moving(error: BaseException) -> bool:
    """Whether the database refused a write because its tenant is moving to another home."""
    said: BaseException | None = error
    while said is not None:
        if getattr(said, "sqlstate", None) == TenantMoving.SQLSTATE:
            return True
        said = said.__cause__
    return False


_BY_STATUS: dict[int, type[Problem]] = {
    405: MethodNotAllowed,
    413: BodyTooLarge,
    415: UnsupportedMediaType,
    429: RateLimited,
}


def _translated(exception: drf.APIException) -> Problem:
    known = _BY_STATUS.get(exception.status_code, BadRequest)
    wait = getattr(exception, "wait", None)
    headers = {"Retry-After": str(int(wait) + 1)} if wait is not None else None
    return known(str(exception.detail), headers=headers)


def _field_errors(detail: Any, pointer: str) -> Iterator[FieldError]:
    """DRF's nested errors, flat, each with the JSON pointer of its field."""
    if isinstance(detail, Mapping):
        for name, inner in detail.items():
            whole = name == api_settings.NON_FIELD_ERRORS_KEY
            yield from _field_errors(inner, pointer if whole else f"{pointer}/{escape(name)}")
    elif isinstance(detail, list):
        for index, inner in enumerate(detail):
            of_item = isinstance(inner, Mapping)
            yield from _field_errors(inner, f"{pointer}/{index}" if of_item else pointer)
    else:
        yield FieldError(pointer, getattr(detail, "code", "invalid"), str(detail))


def escape(part: str) -> str:
    """A member's name as a part of a JSON pointer (RFC 6901, section 3)."""
    return str(part).replace("~", "~0").replace("/", "~1")


# ---- Django's own error views (handler400 … handler500 in urls.py) ----


def bad_request_view(request: HttpRequest, exception: Exception) -> HttpResponse:
    return problem_response(BadRequest(), request)


def forbidden_view(request: HttpRequest, exception: Exception) -> HttpResponse:
    return problem_response(Forbidden(), request)


def not_found_view(request: HttpRequest, exception: Exception) -> HttpResponse:
    return problem_response(NotFoundProblem(), request)


def server_error_view(request: HttpRequest) -> HttpResponse:
    return problem_response(Problem(), request)
