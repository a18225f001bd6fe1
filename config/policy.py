"""The Content-Security-Policy header: django-csp's, with the policy of the settings built once.

Building it anew was a sixth of all the calls that taking a sign-up in makes.
"""

from functools import cached_property

from csp.constants import HEADER
from csp.middleware import CSPMiddleware
from csp.utils import build_policy
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase


class PolicyMiddleware(CSPMiddleware):
    """Sets the policy. What a view changes by csp.decorators, or a nonce, goes the long way."""

    @cached_property
    def _plain(self) -> str | None:
        """The policy of the settings; None where more than that is to be looked at."""
        if settings.DEBUG or hasattr(settings, "CONTENT_SECURITY_POLICY_REPORT_ONLY"):
            return None
        if "EXCLUDE_URL_PREFIXES" in settings.CONTENT_SECURITY_POLICY:
            return None
        return build_policy()

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        changed = "_csp_nonce" in request.__dict__ or any(
            name.startswith("_csp") for name in response.__dict__
        )
        if self._plain is None or changed:
            return super().process_response(request, response)
        response.headers.setdefault(HEADER, self._plain)
        return response
