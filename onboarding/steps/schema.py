"""A dedicated tenant's own schema."""

from django.db import connections
from psycopg import sql

from onboarding.errors import NotOurs
from onboarding.ledger import Resource
from onboarding.steps.step import Context, Step
from tenants import schemas
from tenants.states import Home


class Schema(Step):
    """The schema `t_<id>` with the tables of the tenant apps, for plans whose home is dedicated.

    Read by every query of the tenant's: its search_path names this schema before `public`. Made on
    the owner's alias, since the app role may create nothing.
    """

    name = "schema"
    outside = True

    def applies_to(self, ctx: Context) -> bool:
        return ctx.home == Home.DEDICATED

    def observe(self, ctx: Context) -> Resource | None:
        """The mark is set last: a schema without it is half made."""
        return Resource(ctx.schema) if mark_of(ctx.schema) == ctx.mark else None

    def apply(self, ctx: Context) -> Resource:
        _refuse_unless_ours(ctx)
        schemas.ensure_schema(ctx.schema)
        with connections["owner"].cursor() as cursor:
            cursor.execute(
                sql.SQL("comment on schema {} is {}").format(
                    sql.Identifier(ctx.schema), sql.Literal(ctx.mark)
                )
            )
        return Resource(ctx.schema)

    def undo(self, ctx: Context, recorded: Resource | None) -> None:
        _refuse_unless_ours(ctx)
        schemas.drop_schema(ctx.schema)


def mark_of(schema: str) -> str | None:
    """The owner's mark of a schema; None when it bears none, or is not there."""
    with connections["owner"].cursor() as cursor:
        cursor.execute(
            "select obj_description(oid, 'pg_namespace') from pg_namespace where nspname = %s",
            [schema],
        )
        row = cursor.fetchone()
    return row[0] if row else None


def _refuse_unless_ours(ctx: Context) -> None:
    """Raises NotOurs. An unmarked schema is ours: only this sign-up ever drew its number."""
    if mark_of(ctx.schema) not in {None, ctx.mark}:
        raise NotOurs(f"schema {ctx.schema} carries another owner's mark")
