"""What a caller of the onboarding API can be told. A problem's docstring is its title."""

from config.problems import Problem


class SlugTaken(Problem):
    """This address is taken."""

    status = 409
    code = "slug_taken"


class KeyReused(Problem):
    """This Idempotency-Key was used for another request."""

    # draft-ietf-httpapi-idempotency-key-header, section 2.7: same key, other payload.
    status = 422
    code = "idempotency_key_reused"


class PlanNotOpen(Problem):
    """This plan is not open to everyone."""

    status = 403
    code = "plan_not_open"


class SignUpRefused(Problem):
    """This sign-up was refused."""

    # Raised by a project's own check (SLIPWAY["SIGN_UP_CHECK"]): a captcha, a disposable domain.
    status = 403
    code = "sign_up_refused"


class UnknownRequest(Problem):
    """There is no such sign-up."""

    status = 404
    code = "unknown_request"


class StepNotBegun(Problem):
    """The sign-up is not at this step."""

    status = 409
    code = "step_not_begun"


class NotReady(Problem):
    """The tenant is not ready yet."""

    status = 409
    code = "not_ready"


class NotActivated(Problem):
    """The owner has not activated the account yet."""

    status = 409
    code = "not_activated"


class AlreadyActivated(Problem):
    """The owner has activated the account already."""

    status = 409
    code = "already_activated"


class BadClaim(Problem):
    """This claim token is not valid."""

    status = 401
    code = "invalid_claim_token"


class AlreadyClaimed(Problem):
    """The first key was claimed before."""

    status = 409
    code = "already_claimed"


class NotOurs(Exception):
    """What bears the tenant's name carries another owner's mark; it is left alone."""


class StepFailed(Exception):
    """A provisioning step failed; the message names the step."""
