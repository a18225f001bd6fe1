"""Django apps that add to Slipway without editing it: SLIPWAY_EXTENSIONS (docs/extensions.md).

An extension's AppConfig may say `tenant_app = True`, when its tables are each tenant's (in `pool`
and in every dedicated schema), and `slipway = {…}`, which is merged into settings.SLIPWAY.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.exceptions import ImproperlyConfigured


def install(
    names: Sequence[str], *, shared: list[str], tenant: list[str], slipway: dict[str, Any]
) -> None:
    """Add the apps to one of the two lists, and what they bring to `slipway`.

    Raises ImproperlyConfigured for what cannot be loaded, and for what two want to be.
    """
    for name in names:
        if name in {*shared, *tenant}:
            raise ImproperlyConfigured(f"SLIPWAY_EXTENSIONS names {name}, which is there already.")
        app = _load(name)
        (tenant if getattr(app, "tenant_app", False) else shared).append(name)
        for key, more in getattr(app, "slipway", {}).items():
            if key not in slipway:
                raise ImproperlyConfigured(f"{name} adds to SLIPWAY[{key!r}], which is nothing.")
            slipway[key] = _merged(slipway[key], more, f"SLIPWAY[{key!r}]", name)


def _load(name: str) -> AppConfig:
    """The app's configuration. Its models are not imported: there are no settings yet."""
    try:
        app = AppConfig.create(name)
    except Exception as error:
        raise ImproperlyConfigured(
            f"SLIPWAY_EXTENSIONS names {name}, which cannot be loaded: {error!r}. Its apps.py may"
            " import neither models nor settings."
        ) from error
    if app.name != name or app.label != name.rpartition(".")[2]:
        raise ImproperlyConfigured(
            f"SLIPWAY_EXTENSIONS names {name}: name the package, and let its label be the last part"
            f" of its name (it is {app.label!r} of {app.name})."
        )
    return app


def _merged(there: Any, more: Any, where: str, name: str) -> Any:
    if isinstance(there, Mapping) and isinstance(more, Mapping):
        _refuse_twice(there.keys() & more.keys(), where, name)
        return {**there, **more}
    if isinstance(there, list) and isinstance(more, list):
        _refuse_twice({_called(each) for each in there} & {_called(e) for e in more}, where, name)
        return [*there, *more]
    raise ImproperlyConfigured(
        f"{name} sets {where}, which is the project's to set: extensions add to tables and lists."
    )


def _refuse_twice(twice: set[str], where: str, name: str) -> None:
    if twice:
        which = ", ".join(sorted(twice))
        raise ImproperlyConfigured(f"{name} adds {which} to {where}, where it is already.")


def _called(entry: Any) -> str:
    """What an entry of a list goes by: provisioning steps have names."""
    return str(entry["name"]) if isinstance(entry, Mapping) else str(entry)
