"""What can be wrong with a customer, as the caller is told it."""

from config.problems import Problem


class CustomerNotFound(Problem):
    """There is no such customer."""

    status = 404
    code = "customer_not_found"


class ExternalIdTaken(Problem):
    """Another customer of yours has this external_id."""

    status = 409
    code = "external_id_taken"
