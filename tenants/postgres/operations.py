"""Names the compiler module that refuses a tenant's table when no tenant is set."""

from django.db.backends.postgresql import operations


class DatabaseOperations(operations.DatabaseOperations):
    """Django's, with tenants.postgres.compiler."""

    compiler_module = "tenants.postgres.compiler"
