"""Row-level security as migration operations: what makes a table a tenant's.

    operations = [
        migrations.CreateModel("Delivery", …),
        IsolateTenant("Delivery", references={"endpoint": "webhooks.Endpoint"}),
    ]

Both operations can be undone, and work in whatever schema is being migrated.
"""

from collections.abc import Mapping
from typing import Any

from django.apps.registry import Apps
from django.db import router
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation, OperationCategory
from django.db.migrations.state import ProjectState

from tenants.roles import APP

POLICY = "tenant_isolation"
# The sub-select makes it an InitPlan: checked once a query, not once a row.
PREDICATE = "{column} = (select slipway.current_tenant_id())"


class _OnTable(Operation):
    """An operation on one model's table, in the order of `forward` and, undone, `backward`."""

    reduces_to_sql = True
    reversible = True
    category = OperationCategory.SQL
    model_name: str

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """The models stay as they are."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        self._run(app_label, schema_editor, to_state, forward=True)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        self._run(app_label, schema_editor, from_state, forward=False)

    def _run(
        self,
        app_label: str,
        editor: BaseDatabaseSchemaEditor,
        state: ProjectState,
        *,
        forward: bool,
    ) -> None:
        # Not allow_migrate_model(): a partitioned table is isolated too, and Django manages none.
        if not router.allow_migrate(editor.connection.alias, app_label, model_name=self.model_name):
            return
        model = state.apps.get_model(app_label, self.model_name)
        for statement in self.statements(model, state.apps, forward=forward):
            editor.execute(statement)

    def statements(self, model: Any, apps: Apps, *, forward: bool) -> list[str]:
        """The SQL of one direction."""
        raise NotImplementedError


class IsolateTenant(_OnTable):
    """Make a table the tenant's: RLS forced, one policy, tenant-first and composite keys, grants.

    `references` names the foreign keys into other tenant tables, field to "app.Model": each becomes
    FOREIGN KEY (tenant_id, field_id), so that a row cannot point at another tenant's.
    `grant` is what the app role may do with its own tenant's rows; "" is nothing.
    `tenant_key` makes (tenant_id, id) unique; a partitioned table's keys must have more columns.
    """

    def __init__(
        self,
        model_name: str,
        *,
        references: Mapping[str, str] | None = None,
        grant: str = "select, insert, update, delete",
        tenant_column: str = "tenant_id",
        tenant_key: bool = True,
    ) -> None:
        self.model_name = model_name
        self.references = dict(references or {})
        self.grant = grant
        self.tenant_column = tenant_column
        self.tenant_key = tenant_key and tenant_column != "id"

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return (
            type(self).__name__,
            [self.model_name],
            {
                "references": self.references,
                "grant": self.grant,
                "tenant_column": self.tenant_column,
                "tenant_key": self.tenant_key,
            },
        )

    def describe(self) -> str:
        return f"Isolate the tenants' rows of {self.model_name}"

    @property
    def migration_name_fragment(self) -> str:
        return f"isolate_{self.model_name.lower()}"

    def statements(self, model: Any, apps: Apps, *, forward: bool) -> list[str]:
        table = model._meta.db_table
        return self._isolate(model, table, apps) if forward else self._release(model, table)

    def _isolate(self, model: Any, table: str, apps: Apps) -> list[str]:
        own = PREDICATE.format(column=self.tenant_column)
        return [
            f'alter table "{table}" enable row level security',
            f'alter table "{table}" force row level security',
            f'create policy {POLICY} on "{table}" using ({own}) with check ({own})',
            *self._tenant_key(model, table),
            *self._composite_keys(model, table, apps),
            *([f'grant {self.grant} on "{table}" to {APP}'] if self.grant else []),
        ]

    def _tenant_key(self, model: Any, table: str) -> list[str]:
        """(tenant_id, id), the target of composite foreign keys and the index of each look-up."""
        if not self.tenant_key:
            return []
        key = model._meta.pk.column
        return [
            f'alter table "{table}" add constraint "{table}_tenant_key"'
            f' unique ({self.tenant_column}, "{key}")'
        ]

    def _composite_keys(self, model: Any, table: str, apps: Apps) -> list[str]:
        statements = []
        for field_name, target_label in self.references.items():
            field = model._meta.get_field(field_name)
            target = apps.get_model(target_label)._meta
            action = "cascade" if not field.null else f'set null ("{field.column}")'
            statements.append(
                f'alter table "{table}" add constraint "{table}_{field_name}_same_tenant"'
                f' foreign key ({self.tenant_column}, "{field.column}")'
                f' references "{target.db_table}" (tenant_id, "{target.pk.column}")'
                f" on delete {action} deferrable initially deferred"
            )
        return statements

    def _release(self, model: Any, table: str) -> list[str]:
        keys = [
            f'alter table "{table}" drop constraint "{table}_{name}_same_tenant"'
            for name in self.references
        ]
        if self.tenant_key:
            keys.append(f'alter table "{table}" drop constraint "{table}_tenant_key"')
        return [
            f'revoke all on "{table}" from {APP}',
            *keys,
            f'drop policy {POLICY} on "{table}"',
            f'alter table "{table}" no force row level security',
            f'alter table "{table}" disable row level security',
        ]


class Grant(_OnTable):
    """Let the app role use a table that belongs to no tenant. Without it, it may do nothing."""

    def __init__(self, model_name: str, *, app: str) -> None:
        self.model_name = model_name
        self.app = app

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__name__, [self.model_name], {"app": self.app}

    def describe(self) -> str:
        return f"Grant {self.app} on {self.model_name} to the app role"

    def statements(self, model: Any, apps: Apps, *, forward: bool) -> list[str]:
        verb, preposition = ("grant", "to") if forward else ("revoke", "from")
        return [f'{verb} {self.app} on "{model._meta.db_table}" {preposition} {APP}']
