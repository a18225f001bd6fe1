"""Who may do what in the console: three groups, and what each of them may.

Everything is shown to all three. The groups are made by console/0001, and completed after each
`migrate`, when the permissions of new models are there (settings.SLIPWAY["AFTER_MIGRATE"]).
"""

from collections.abc import Mapping
from enum import StrEnum

from django.contrib.auth.models import Group, Permission
from django.db.models import Q


class Role(StrEnum):
    """A role is a group; an operator has one."""

    VIEWER = "viewer"  # Sees everything, changes nothing.
    OPERATOR = "operator"  # Puts right what is stuck.
    ADMINISTRATOR = "administrator"  # Also what cannot be undone, keys and operators.


_OPERATOR = frozenset(
    {
        "replay",
        "discard",
        "cancel",
        "retry",
        "steer",
        "suspend",
        "resume_onboarding",
        "undo_onboarding",
    }
)
DEEDS: Mapping[Role, frozenset[str]] = {
    Role.VIEWER: frozenset(),
    Role.OPERATOR: _OPERATOR,
    Role.ADMINISTRATOR: _OPERATOR | {"close", "plan", "export", "erase", "revoke", "operate"},
}


def complete(using: str) -> None:
    """Give each group exactly what its role may, of the permissions that exist now."""
    seen = Q(codename__startswith="view_")
    for role, deeds in DEEDS.items():
        group, _ = Group.objects.using(using).get_or_create(name=role)
        mine = Q(content_type__app_label="console", codename__in=deeds)
        group.permissions.set(Permission.objects.using(using).filter(seen | mine))
