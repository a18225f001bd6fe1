"""Operators: who they are, their roles, and how they come and go. The one door for writes.

An operator is a user with `is_staff`, in the group of one role. Superusers may everything; the one
that `prepare` makes is the first administrator.
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Prefetch, Q
from django.utils import timezone

from console import second_factor
from console.errors import AlreadyOperator, LastAdministrator, MembersAddress, UnknownOperator
from console.models import SecondFactor
from console.roles import Role
from tenants import audit
from tenants.models import User

OPERATOR = "operator"
_ROLES = Prefetch("groups", Group.objects.filter(name__in=list(Role)), to_attr="roles")
_ADMINISTRATORS = Q(is_superuser=True) | Q(groups__name=Role.ADMINISTRATOR)


@dataclass(frozen=True, slots=True)
class Shown:
    """One operator, as the list shows them; `role` is "" where they have none."""

    user: User
    role: str
    second_factor: bool

    def row(self) -> dict[str, Any]:
        """For --json."""
        seen = self.user.last_login
        return {
            "id": str(self.user.pk),
            "email": self.user.email,
            "role": self.role,
            "superuser": self.user.is_superuser,
            "active": self.user.is_active,
            "second_factor": self.second_factor,
            "last_login": seen.isoformat() if seen else None,
        }


@dataclass(frozen=True, slots=True)
class Made:
    """A new operator, and the password that is shown once."""

    user: User
    password: str


def listed(ids: Iterable[Any] | None = None) -> list[Shown]:
    """All operators by address, those who are out too; or those of these ids."""
    people = User.objects.using(OPERATOR).filter(is_staff=True).prefetch_related(_ROLES)
    if ids is not None:
        people = people.filter(pk__in=list(ids))
    enrolled = SecondFactor.objects.using(OPERATOR).filter(confirmed=True)
    have = set(enrolled.values_list("user_id", flat=True))
    return [Shown(user, _role(user), user.pk in have) for user in people.order_by("email")]


def find(email: str) -> User:
    """The operator of an address. Raises UnknownOperator."""
    people = User.objects.using(OPERATOR).filter(is_staff=True, email__iexact=email.strip())
    if (user := people.first()) is None:
        raise UnknownOperator
    return user


def add(*, email: str, role: Role, actor: str, reason: str, name: str = "") -> Made:
    """Make an operator, or let one in again who was out, with a password that is shown once.

    Raises AlreadyOperator, MembersAddress.
    """
    password = secrets.token_urlsafe(12)
    with transaction.atomic(using=OPERATOR):
        people = User.objects.using(OPERATOR).select_for_update()
        user = people.filter(email__iexact=email.strip()).first()
        if user is not None and not user.is_staff:
            raise MembersAddress
        if user is not None and user.is_active:
            raise AlreadyOperator
        if user is None:
            make = User.objects.db_manager(OPERATOR).create_user
            now = timezone.now()
            user = make(email, password, name=name, is_staff=True, activated_at=now)
        else:
            user.set_password(password)
            user.is_active, user.is_superuser = True, False
            user.save(update_fields=["password", "is_active", "is_superuser"])
        _put(user, role)
        _record("operator.added", user, actor, reason, after={"role": role})
    return Made(user, password)


def set_role(*, user: User, role: Role, actor: str, reason: str) -> bool:
    """Give an operator another role; says whether it was another. Raises LastAdministrator.

    Who is no administrator any more is no superuser either.
    """
    with transaction.atomic(using=OPERATOR):
        held = _hold(user)
        before = _role(held)
        if before == role:
            return False
        if role != Role.ADMINISTRATOR:
            _refuse_last(held)
            held.is_superuser = False
            held.save(update_fields=["is_superuser"])
        _put(held, role)
        _record("operator.role", held, actor, reason, before={"role": before}, after={"role": role})
    return True


def disable(*, user: User, actor: str, reason: str) -> bool:
    """Shut an operator out with their next click; says whether they were in.

    Raises LastAdministrator.
    """
    with transaction.atomic(using=OPERATOR):
        held = _hold(user)
        if not held.is_active:
            return False
        _refuse_last(held)
        held.is_active = False
        held.save(update_fields=["is_active"])
        _record("operator.disabled", held, actor, reason)
    return True


def reset_second_factor(*, user: User, actor: str, reason: str) -> bool:
    """Let an operator enrol anew; says whether they had a second factor."""
    return second_factor.reset(user=user, actor=actor, reason=reason)


def _hold(user: User) -> User:
    """The row, locked, with all administrators: two who end each other end one."""
    people = User.objects.using(OPERATOR).filter(is_staff=True)
    list(people.filter(_ADMINISTRATORS).order_by("pk").select_for_update(of=("self",)))
    return people.select_for_update().prefetch_related(_ROLES).get(pk=user.pk)


def _refuse_last(user: User) -> None:
    administrators = User.objects.using(OPERATOR).filter(_ADMINISTRATORS, is_staff=True)
    ids = set(administrators.filter(is_active=True).values_list("pk", flat=True))
    if ids == {user.pk}:
        raise LastAdministrator


def _put(user: User, role: Role) -> None:
    groups = Group.objects.using(OPERATOR)
    user.groups.remove(*groups.filter(name__in=list(Role)))
    user.groups.add(groups.get(name=role))


def _role(user: User) -> str:
    if user.is_superuser:
        return Role.ADMINISTRATOR
    held = {group.name for group in user.roles}  # type: ignore[attr-defined]
    return next((role for role in reversed(Role) if role in held), "")


def _record(action: str, user: User, actor: str, reason: str, **change: Any) -> None:
    audit.record(
        actor=actor,
        action=action,
        target=f"user:{user.pk}",
        reason=reason,
        using=OPERATOR,
        **change,
    )
