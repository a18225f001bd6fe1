"""What an act is, as each app declares its own; config.admin.acting offers and does them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from django import forms
from django.db.models import Model, Q, QuerySet

from config.problems import Problem

PERMISSIONS = "console"  # The app whose model has the permissions of all acts.
# What says that an object is no longer as the page showed it, where its model has it.
_STANDING = (
    *("state", "status", "attempts", "lease", "due_at", "finished_at", "resolved_at"),
    *("revoked_at", "disabled_at", "deleted_at", "cancelled_at", "plan"),
    *("operator_paused_until", "operator_why", "operator_window", "operator_rate"),
)


class Because(forms.Form):
    """What every act asks. An act that must know more has a form that inherits this one."""

    reason = forms.CharField(
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Why: the audit trail keeps it.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """What is done comes first, and why last."""
        super().__init__(*args, **kwargs)
        self.order_fields([*(name for name in self.fields if name != "reason"), "reason"])


@dataclass(frozen=True, slots=True)
class Asked:
    """Who wants it and why, and what else the form asked."""

    actor: str
    reason: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Besides:
    """A permission that an act takes besides its own, of some of its model's rows."""

    permission: str
    rows: Q


def _always(row: Any) -> bool:
    return True


def _nothing() -> Sequence[Besides]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One thing that operators may do to objects of a model."""

    name: str  # In its address.
    label: str
    permission: str  # Its codename, of the app PERMISSIONS.
    done: str  # "replayed"
    # Does it to one object; says what came of it where `done` is not enough.
    do: Callable[[Any, Asked], str | None]
    fits: Callable[[Any], bool] = _always  # Whether it can be done as the object stands.
    besides: Callable[[], Sequence[Besides]] = _nothing  # Asked each time: apps add to them.
    means: str = ""  # What whoever confirms it should know.
    form: type[Because] = Because
    many: bool = True  # Whether several rows may be ticked for it.
    refusals: tuple[type[Exception], ...] = (Problem,)  # Told, and no failure of ours.
    # With `chunk` it is done to everything that a filter finds, in the background: it moves some
    # rows, in the caller's transaction, and says how many. `within` narrows what the filter finds
    # to what `fits`.
    chunk: Callable[[QuerySet[Any], Asked], int] | None = None
    within: Q = field(default_factory=Q)

    def allowed(self, user: Any) -> bool:
        """Whether the operator may."""
        return _may(user, self.permission)

    def within_reach_of(self, user: Any) -> Q:
        """The rows that the operator may do it to."""
        reach = Q()
        for one in self.besides():
            if not _may(user, one.permission):
                reach &= ~one.rows
        return reach

    def reached(self, user: Any, rows: Sequence[Any]) -> set[Any]:
        """The keys of those of these rows that the operator may do it to."""
        reach, keys = self.within_reach_of(user), {row.pk for row in rows}
        if not (reach and keys):
            return keys
        found = type(rows[0])._default_manager.filter(reach, pk__in=keys)
        return set(found.values_list("pk", flat=True))


def _may(user: Any, permission: str) -> bool:
    return bool(user.has_perm(f"{PERMISSIONS}.{permission}"))


def asked(user: Any, form: Because) -> Asked:
    """What a valid form asks, of whoever is signed in."""
    values = dict(form.cleaned_data)
    return Asked(actor_of(user), values.pop("reason").strip(), values)


def actor_of(user: Any) -> str:
    """How the audit trail names an operator (tenants.audit)."""
    return f"operator:{user.pk}"


def standing(row: Model) -> str:
    """How an object stands, as a short text that is another when it stands otherwise."""
    said = [str(getattr(row, name)) for name in _STANDING if hasattr(row, name)]
    return sha256("\n".join(said).encode()).hexdigest()[:16]
