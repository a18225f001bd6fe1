"""What makes a table a work table, as a migration operation."""

from typing import Any

from django.apps.registry import Apps

from tenants.rls import _OnTable
from tenants.roles import APP, OPERATOR

# Rows change a few times in quick succession and then rest: leave room on the page, and clean
# early, since the claim walks over what is not cleaned.
STORAGE = {
    "fillfactor": "75",
    "autovacuum_vacuum_scale_factor": "0.01",
    "autovacuum_vacuum_threshold": "500",
    "autovacuum_analyze_scale_factor": "0.05",
    "autovacuum_vacuum_cost_delay": "0",
}

# The fence of jobs.fence: locks the row, so that a rescue waits for the step's transaction.
HOLD = """
create function slipway.hold_{table}(work uuid, held bigint) returns boolean
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
  select exists (
    select 1 from public."{table}" w
    where w.id = work and w.lease = held and w.state in ('processing', 'discarding')
      and w.tenant_id = slipway.current_tenant_id()
    for share
  )
$$
"""


class WorkTable(_OnTable):
    """Storage settings of a hot, narrow table, and its function for jobs.fence.

    Comes after IsolateTenant(…, grant="select, insert").
    """

    def __init__(self, model_name: str) -> None:
        self.model_name = model_name

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__name__, [self.model_name], {}

    def describe(self) -> str:
        return f"Make {self.model_name} a work table"

    @property
    def migration_name_fragment(self) -> str:
        return f"work_{self.model_name.lower()}"

    def statements(self, model: Any, apps: Apps, *, forward: bool) -> list[str]:
        table = model._meta.db_table
        name = f"slipway.hold_{table}(uuid, bigint)"
        if not forward:
            return [
                f"drop function {name}",
                f'alter table "{table}" reset ({", ".join(STORAGE)})',
            ]
        settings = ", ".join(f"{key} = {value}" for key, value in STORAGE.items())
        return [
            f'alter table "{table}" set ({settings})',
            HOLD.format(table=table),
            f"revoke all on function {name} from public",
            f"grant execute on function {name} to {APP}, {OPERATOR}",
        ]
