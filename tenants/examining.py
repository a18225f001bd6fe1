"""What the doctor looks at in tenancy: roles and rights, isolation, migrations, keys, storage."""

import re
from collections.abc import Iterator
from uuid import uuid4

from django.apps import apps
from django.conf import settings
from django.core.files.base import ContentFile
from django.db import connections
from django.db.migrations.loader import MigrationLoader
from psycopg import sql

from config.doctor import Finding, fail, ok, warn
from tenants import catalogue, isolation
from tenants.context import POOL
from tenants.context_ring import CONTEXT
from tenants.files import storage
from tenants.rls import Grant
from tenants.roles import APP, ATTRIBUTES, OPERATOR, OWNER
from tenants.schemas import tenant_labels

ROLES = {"default": APP, "operator": OPERATOR, "owner": OWNER}
URLS = {
    "default": "DATABASE_URL",
    "operator": "OPERATOR_DATABASE_URL",
    "owner": "OWNER_DATABASE_URL",
}
SHOWN = 5  # Of a list of things that are wrong alike.
MEND_ROLES = "Run `manage.py roles` with SUPERUSER_DATABASE_URL."
MEND_RIGHTS = "Somebody revoked it, or the table was made by hand: grant it again as the owner."

_ROLE = """
select current_user::text, r.rolsuper, r.rolbypassrls, r.rolcreaterole or r.rolcreatedb,
  exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relowner = r.oid and n.nspname !~ '^pg_'),
  has_function_privilege('pg_catalog.set_config(text, text, boolean)', 'execute')
from pg_roles r where r.rolname = current_user
"""
# The operator reads everything there but the keys of contexts; partitions are reached by parents.
_UNREADABLE = """
select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and not c.relispartition
  and (n.nspname in ('public', 'pool') or n.nspname ~ '^t_[0-9]+$')
  and not (has_schema_privilege(%(role)s, n.oid, 'usage')
    and has_table_privilege(%(role)s, c.oid, 'select')) order by 1
"""
# Some may be written in part: there it is enough that any column may.
_LACKING = """
select distinct t.name || ': ' || t.word
from unnest(%(tables)s::text[], %(rights)s::text[]) t(name, word)
where to_regclass(t.name) is not null and not
  case when t.word in ('select', 'insert', 'update')
    then has_any_column_privilege(%(role)s, t.name::regclass, t.word)
    else has_table_privilege(%(role)s, t.name::regclass, t.word) end
order by 1
"""
_COLUMNS = re.compile(r"\([^)]*\)")
_RIGHT = re.compile(r"(select|insert|update|delete)\b")


def look_at_roles() -> Iterator[Finding]:
    """One login for each role, with what it needs and no more."""
    for alias, wanted in ROLES.items():
        if alias not in settings.DATABASES:
            yield warn(
                f"{URLS[alias]} is not set here: as {wanted} nothing can be seen or done.",
                "Set it where workers and commands run; `web` may do without.",
            )
            continue
        yield from _role(alias, wanted)
    if "operator" in settings.DATABASES:
        yield from _rights()


def _role(alias: str, wanted: str) -> Iterator[Finding]:
    with connections[alias].cursor() as cursor:
        cursor.execute(_ROLE)
        name, superuser, bypasses, makes, owns, sets = cursor.fetchone()
    wrong = []
    if superuser or makes:
        wrong.append("is a superuser, or makes roles and databases")
    if bypasses != (" bypassrls" in ATTRIBUTES[wanted]):
        wrong.append(
            "passes by row-level security" if bypasses else "is bound by row-level security"
        )
    if owns and alias != "owner":
        wrong.append("owns tables")
    if sets and alias == "default":
        wrong.append("may call set_config(), and so become another tenant")
    if wrong:
        yield fail(f"{URLS[alias]} signs in as {name}, which {', '.join(wrong)}.", MEND_ROLES)
    else:
        yield ok(f"{URLS[alias]} signs in as {name}.")


def _rights() -> Iterator[Finding]:
    with connections["operator"].cursor() as cursor:
        cursor.execute(_UNREADABLE, {"role": OPERATOR})
        unreadable = [name for (name,) in cursor.fetchall()]
        cursor.execute(_LACKING, {"role": APP, **_granted()})
        lacking = [name for (name,) in cursor.fetchall()]
    if unreadable:
        yield fail(f"{OPERATOR} cannot read {_few(unreadable)}.", MEND_RIGHTS)
    if lacking:
        yield fail(f"{APP} lacks rights: {_few(lacking)}.", MEND_RIGHTS)
    if not (unreadable or lacking):
        yield ok("Each role has the rights that migrations gave it.")


def _granted() -> dict[str, list[str]]:
    """What migrations let the app role do, table by table; in the pool for tenant apps' tables."""
    tables, rights = [], []
    for label, operation in isolation.granting_operations():
        model = apps.get_model(label)
        config = model._meta.app_config
        home = POOL if config is not None and config.name in settings.TENANT_APPS else "public"
        grant = operation.app if isinstance(operation, Grant) else operation.grant
        for right in _RIGHT.findall(_COLUMNS.sub("", grant)):
            tables.append(f"{home}.{model._meta.db_table}")
            rights.append(right)
    return {"tables": tables, "rights": rights}


def look_at_isolation() -> Iterator[Finding]:
    """The audit of the catalogue: policies, forced RLS, composite keys, rights."""
    found = catalogue.findings(using="operator")
    for finding in found:
        yield fail(
            f"{finding}.", "A tenant may reach another's rows: mend it before anything else."
        )
    if not found:
        yield ok("Every tenant table is isolated, in the catalogue's own words.")


def look_at_migrations() -> Iterator[Finding]:
    """Of public, the pool and each dedicated schema."""
    loader = MigrationLoader(None, ignore_no_migrations=True)
    tenants = set(tenant_labels())
    wanted = set(loader.disk_migrations)
    of_homes = {key for key in wanted if key[0] in tenants}
    behind = 0
    with connections["operator"].cursor() as cursor:
        cursor.execute(
            r"select nspname, has_schema_privilege(oid, 'usage') from pg_namespace"
            r" where nspname ~ '^t_[0-9]+$' order by 1"
        )
        found = cursor.fetchall()
        if closed := [name for name, is_open in found if not is_open]:
            yield fail(
                f"{_few(closed)} may not be entered by the operator's login.",
                "Made by half, or not by Slipway, whose tenant of that number can have no schema of"
                " its own while it is there: look what it is, and rename or drop it.",
            )
        schemas = ["public", POOL, *(name for name, is_open in found if is_open)]
        for schema in schemas:
            missing = (wanted - of_homes if schema == "public" else of_homes) - _applied(
                cursor, schema
            )
            if missing and (behind := behind + 1) <= SHOWN:
                names = _few([f"{app}.{name}" for app, name in sorted(missing)])
                yield fail(f"{schema} lacks {names}.", "Run `manage.py migrate`.")
    if behind:
        yield fail(f"{behind} of {len(schemas)} schemas are behind.", "Run `manage.py migrate`.")
    else:
        yield ok(f"{len(schemas)} schemas are up to date.")


def _applied(cursor: object, schema: str) -> set[tuple[str, str]]:
    table = sql.Identifier(schema, "django_migrations")
    cursor.execute("select to_regclass(%s)", [f"{schema}.django_migrations"])  # type: ignore[attr-defined]
    if cursor.fetchone()[0] is None:  # type: ignore[attr-defined]
        return set()
    cursor.execute(sql.SQL("select app, name from {}").format(table))  # type: ignore[attr-defined]
    return set(cursor.fetchall())  # type: ignore[attr-defined]


def look_at_context() -> Iterator[Finding]:
    """Whether Postgres accepts what this process signs, and no more keys than it must."""
    accepted, mine = CONTEXT.accepted(), CONTEXT.fingerprint(CONTEXT.keys()[0])
    if mine not in accepted:
        yield fail(
            f"Postgres does not accept CONTEXT_KEY ({mine}): every tenant's request fails.",
            "Set the key that others have, or run `manage.py migrate` to add this one.",
        )
    elif len(accepted) > 1:
        yield warn(
            f"Postgres accepts {len(accepted)} keys of the tenant context.",
            "Finish what was begun: manage.py rotate-keys context --finish",
        )
    else:
        yield ok(f"Postgres accepts CONTEXT_KEY ({mine}), and no other.")


def look_at_storage() -> Iterator[Finding]:
    """Write, read and delete a small file where tenants' files are."""
    place, said = storage(), settings.STORAGES["tenants"]["BACKEND"].rpartition(".")[2]
    probe = uuid4().hex.encode()
    try:
        name = place.save(f"slipway-doctor/{probe.decode()}", ContentFile(probe))
        try:
            with place.open(name) as file:
                same = file.read() == probe
        finally:
            place.delete(name)
    except Exception as error:
        yield fail(
            f"{said} refuses: {type(error).__name__}: {str(error)[:200]}",
            "Mend TENANT_STORAGE_OPTIONS, rights or quota. Sign-ups wait for it meanwhile.",
        )
        return
    if not same:
        yield fail(f"{said} gives back something else than was written.", "Do not trust it.")
    else:
        yield ok(f"{said} takes, gives and deletes.")


def _few(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
