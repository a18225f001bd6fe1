"""Django's SQL compilers, which refuse a tenant's table while no tenant is set.

Row-level security would answer such a query with no rows; a sentence is kinder than an empty list.
"""

from functools import cache
from typing import Any

from django.apps import apps
from django.db.backends.postgresql import compiler as django

from tenants.context import current_tenant
from tenants.errors import NoTenant


@cache
def tenant_tables() -> frozenset[str]:
    """The tables that row-level security keeps by tenant."""
    return frozenset(
        model._meta.db_table
        for model in apps.get_models(include_auto_created=True)
        if getattr(model, "tenant_isolated", False)
    )


class RefusesNobody:
    """Checks the tables of a query before it is turned into SQL, sub-queries included."""

    connection: Any
    query: Any

    def as_sql(self, *args: Any, **kwargs: Any) -> Any:
        if self.connection.follows_context and current_tenant() is None:
            self._refuse_tenant_tables()
        return super().as_sql(*args, **kwargs)  # type: ignore[misc]

    def _refuse_tenant_tables(self) -> None:
        names = {self.query.model._meta.db_table} if self.query.model else set()
        names |= {join.table_name for join in self.query.alias_map.values()}
        if asked := names & tenant_tables():
            raise NoTenant(f"No tenant is set, and {', '.join(sorted(asked))} belongs to tenants.")


class SQLCompiler(RefusesNobody, django.SQLCompiler): ...


class SQLInsertCompiler(RefusesNobody, django.SQLInsertCompiler): ...


class SQLDeleteCompiler(RefusesNobody, django.SQLDeleteCompiler): ...


class SQLUpdateCompiler(RefusesNobody, django.SQLUpdateCompiler): ...


class SQLAggregateCompiler(RefusesNobody, django.SQLAggregateCompiler): ...
