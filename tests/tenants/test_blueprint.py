"""A schema built from what was learnt is the one that migrations build."""

from uuid import uuid4

import pytest

from tenants import blueprint, schemas

SHAPE = """
select 'column', a.attrelid::regclass::text || '.' || a.attname || ' ' || a.atttypid::regtype
  || ' ' || a.attnotnull || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
from pg_attribute a join pg_class c on c.oid = a.attrelid
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where c.relnamespace = %(schema)s::text::regnamespace and a.attnum > 0 and c.relkind = 'r'
union all select 'index', indexdef from pg_indexes where schemaname = %(schema)s::text
union all select 'constraint', conname || pg_get_constraintdef(oid) from pg_constraint
  where connamespace = %(schema)s::text::regnamespace
union all select 'policy', tablename || policyname || cmd || qual || with_check from pg_policies
  where schemaname = %(schema)s::text
union all select 'table', relname || relrowsecurity || relforcerowsecurity || relacl::text
  from pg_class where relnamespace = %(schema)s::text::regnamespace and relkind = 'r'
union all select 'schema', nspacl::text from pg_namespace where nspname = %(schema)s::text
"""


@pytest.fixture
def fresh():
    """Nothing learnt yet."""
    before = blueprint._learnt[:]
    blueprint._learnt.clear()
    yield
    blueprint._learnt[:] = before


def new_schema() -> str:
    return schemas.schema_name(2**41 + int(uuid4().hex[:8], 16))


def shape(superuser, schema: str) -> list[tuple[str, str]]:
    rows = superuser.execute(SHAPE, {"schema": schema}).fetchall()
    return sorted((kind, text.replace(schema, "t_x")) for kind, text in rows)


def records(superuser, schema: str) -> list[tuple]:
    found = superuser.execute(f"select app, name from {schema}.django_migrations order by 1, 2")
    return found.fetchall()


def test_it_builds_what_migrations_build(fresh, superuser):
    migrated, built = new_schema(), new_schema()
    schemas.ensure_schema(migrated)
    assert blueprint._learnt
    schemas.ensure_schema(built)
    assert shape(superuser, built) == shape(superuser, migrated)
    assert {"column", "index", "constraint", "policy"} <= {k for k, _ in shape(superuser, built)}
    assert records(superuser, built) == records(superuser, migrated)


@pytest.mark.thorough
def test_it_completes_by_migrations_what_is_half_there(superuser):
    whole, half = new_schema(), new_schema()
    schemas.ensure_schema(whole)
    superuser.execute(f"create schema {half} authorization slipway_owner")
    schemas.ensure_schema(half)
    assert shape(superuser, half) == shape(superuser, whole)


@pytest.mark.thorough
def test_it_leaves_nothing_when_it_fails(fresh, superuser):
    schemas.ensure_schema(new_schema())
    blueprint._learnt.append(("create table no such syntax", None))
    failed = new_schema()
    with pytest.raises(Exception, match="syntax"):
        schemas.ensure_schema(failed)
    assert not schemas.exists(failed)
