"""What the services of operators refuse."""

from config.problems import Problem


class UnknownOperator(Problem):
    """There is no operator with this address."""

    status = 404
    code = "unknown_operator"


class AlreadyOperator(Problem):
    """This address is an operator's already."""

    status = 409
    code = "already_operator"


class MembersAddress(Problem):
    """This address is a tenant's member's; operators are members of none."""

    # docs/decisions/0010: the app role never sees staff, so their tenants would lose them.
    status = 409
    code = "members_address"


class LastAdministrator(Problem):
    """This is the last administrator: nobody could make another."""

    status = 409
    code = "last_administrator"
