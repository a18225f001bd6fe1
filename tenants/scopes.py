"""What a key may do: every scope, in one table."""

from collections.abc import Collection

from config.problems import FieldError, Problem

TENANT_SCOPES: dict[str, str] = {
    "customers:read": "Read the tenant's customers.",
    "customers:write": "Create, change and delete the tenant's customers.",
    "campaigns:read": "Read campaigns, their messages, segments, templates and accounts.",
    "campaigns:write": "Make, start, pause and change campaigns, segments, templates and accounts.",
    "workspace:read": "Read the tenant's settings and activity.",
    "endpoints:read": "Read webhook endpoints.",
    "endpoints:write": "Create, change, disable and delete webhook endpoints, and their secrets.",
    "events:read": "Read events and the catalogue of their types.",
    "events:write": "Publish events.",
    "deliveries:read": "Read deliveries and every attempt at them.",
    "deliveries:write": "Replay and discard deliveries.",
    "keys:read": "List the tenant's keys.",
    "keys:write": "Make and revoke keys of the tenant's.",
}
PLATFORM_SCOPES: dict[str, str] = {
    **TENANT_SCOPES,
    "onboarding:write": "Sign tenants up and claim their first keys.",
    "onboarding:read": "See every sign-up in full.",
    "event-types:write": "Change the catalogue of event types.",
    "tenants:read": "List and read tenants.",
    "tenants:write": "Suspend and reopen tenants.",
    "audit:read": "Read the audit trail.",
}


class UnknownScope(Problem):
    """A scope is unknown."""

    status = 400
    code = "unknown_scope"


def check_scopes(scopes: Collection[str], *, among: Collection[str]) -> None:
    """Raises UnknownScope, with a pointer to each one that is not `among` them."""
    errors = [
        FieldError(f"/scopes/{index}", "unknown_scope", "There is no such scope for this key.")
        for index, scope in enumerate(scopes)
        if scope not in among
    ]
    if errors:
        raise UnknownScope(errors=errors)
