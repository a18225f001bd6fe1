"""What can be wrong with a caller, a tenant or a key, as the caller is told it."""

from config.problems import Problem


class MissingKey(Problem):
    """This needs an API key."""

    status = 401
    code = "missing_key"


class InvalidKey(Problem):
    """The API key is not valid."""

    # One answer for malformed, unknown, expired and revoked keys: nobody learns which it was.
    status = 401
    code = "invalid_key"


class WrongKind(Problem):
    """This key is of the wrong kind for this."""

    status = 403
    code = "wrong_key_kind"


class MissingScope(Problem):
    """The API key lacks a scope."""

    status = 403
    code = "missing_scope"


class TenantNotNamed(Problem):
    """A platform key must name the tenant it acts for."""

    status = 400
    code = "tenant_not_named"


class TenantMismatch(Problem):
    """The named tenant is not the one of this key or address."""

    status = 403
    code = "tenant_mismatch"


class TenantNotFound(Problem):
    """There is no such tenant."""

    status = 404
    code = "tenant_not_found"


class TenantNotReady(Problem):
    """This tenant is still being set up."""

    status = 503
    code = "tenant_not_ready"


class TenantSuspended(Problem):
    """This tenant is suspended."""

    status = 403
    code = "tenant_suspended"


class TenantClosed(Problem):
    """This tenant is closed."""

    status = 410
    code = "tenant_closed"


class UnknownHost(Problem):
    """Nothing lives at this address."""

    status = 404
    code = "unknown_host"


class StaleState(Problem):
    """The tenant is not in a state from which this is possible."""

    status = 409
    code = "stale_state"


class KeyNotFound(Problem):
    """There is no such key."""

    status = 404
    code = "key_not_found"


class InvalidLink(Problem):
    """This activation link is not valid any more."""

    # Used, expired, forged, and of a tenant that is gone: one answer.
    status = 410
    code = "invalid_link"
