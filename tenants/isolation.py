"""What the migrations on disk say of isolation: read by the system checks and the catalogue's."""

from django.db.migrations.loader import MigrationLoader

from tenants.rls import Grant, IsolateTenant


def isolating_operations() -> dict[str, IsolateTenant]:
    """The IsolateTenant operation of each model, by its label in lower case."""
    return {label: operation for label, operation in _all() if isinstance(operation, IsolateTenant)}


def granted_models() -> list[str]:
    """The models, by label, whose tables a migration lets the app role use."""
    return [
        label
        for label, operation in _all()
        if isinstance(operation, Grant)
        or (isinstance(operation, IsolateTenant) and operation.grant)
    ]


def granting_operations() -> list[tuple[str, IsolateTenant | Grant]]:
    """The operations that let the app role do something, with the label of their model."""
    return [
        (label, operation)
        for label, operation in _all()
        if isinstance(operation, Grant) or operation.grant
    ]


def _all() -> list[tuple[str, IsolateTenant | Grant]]:
    loader = MigrationLoader(None, ignore_no_migrations=True)
    return [
        (f"{migration.app_label}.{operation.model_name}".lower(), operation)
        for _, migration in sorted(loader.disk_migrations.items())
        for operation in migration.operations
        if isinstance(operation, (IsolateTenant, Grant))
    ]
