"""What a caller can be told of a tenant's life. A problem's docstring is its title."""

from config.problems import Problem


class PlanUnknown(Problem):
    """There is no such plan."""

    status = 400
    code = "invalid_request"


class PlanUnchanged(Problem):
    """The tenant has this plan."""

    status = 409
    code = "plan_unchanged"


class PlanChanging(Problem):
    """Another change of plan is under way."""

    status = 409
    code = "plan_changing"


class NoPlanChange(Problem):
    """The tenant's plan was never changed."""

    status = 404
    code = "no_plan_change"


class MoveFailed(RuntimeError):
    """A move cannot go on, and would not if it were tried again; the message says why."""


class MoveDelayed(RuntimeError):
    """A move cannot go on just now; the message says why."""


class TenantGone(Problem):
    """This tenant is purged: nothing of it is left."""

    status = 410
    code = "tenant_purged"


class ExportNotFound(Problem):
    """There is no such export."""

    status = 404
    code = "export_not_found"


class ExportNotReady(Problem):
    """This export is not finished."""

    status = 409
    code = "export_not_ready"


class TooManyExports(Problem):
    """Too many exports of this tenant are not finished."""

    status = 409
    code = "too_many_exports"


class SlugMistyped(Problem):
    """This is not the tenant's slug."""

    status = 400
    code = "slug_mistyped"


class PersonNotFound(Problem):
    """There is no such person."""

    status = 404
    code = "person_not_found"


class SoleOwner(Problem):
    """This person is the only owner of a tenant."""

    status = 409
    code = "sole_owner"
