"""Who may sign in where: members on their tenant's pages, operators in the console.

Django asks `get_user` on each request, so that a member who was removed, or an operator who is no
longer one, is out with the next click. settings.AUTHENTICATION_BACKENDS names both.
"""

from typing import Any
from uuid import UUID

from django.contrib.auth.backends import BaseBackend, ModelBackend
from django.contrib.auth.hashers import check_password
from django.http import HttpRequest

from tenants.context import current_tenant
from tenants.models import Membership, User
from tenants.routers import is_operator


class MemberBackend(BaseBackend):
    """The members of the current tenant, by e-mail address and password."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **_: Any,
    ) -> User | None:
        if current_tenant() is None or is_operator() or not username or password is None:
            return None
        user = User.objects.filter(email__iexact=username).first()
        if user is None:
            User().set_password(password)  # As slow as a hit, so that time names no member.
            return None
        # Not user.check_password(), which may write a new hash; the app role may not.
        if check_password(password, user.password) and is_member(user):
            return user
        return None

    def get_user(self, user_id: Any) -> User | None:
        if current_tenant() is None or is_operator():
            return None
        user = User.objects.filter(pk=user_id).first()
        return user if user is not None and is_member(user) else None


class OperatorBackend(ModelBackend):
    """Staff, in the console alone."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,
    ) -> Any:
        if not is_operator() or username is None or password is None:
            return None
        return super().authenticate(request, username=username, password=password, **kwargs)

    def get_user(self, user_id: Any) -> Any:
        return super().get_user(user_id) if is_operator() else None

    def user_can_authenticate(self, user: Any) -> bool:
        return bool(user and user.is_active and user.is_staff)


def is_member(user: User) -> bool:
    """Whether the person is in the current tenant now: activated, and joined by accepting."""
    if not user.is_active or user.activated_at is None:
        return False
    return Membership.objects.filter(user=user).exclude(accepted_at=None).exists()


def membership(user_id: UUID) -> Membership:
    """The person's part in the current tenant.

    Raises Membership.DoesNotExist.
    """
    return Membership.objects.get(user_id=user_id)
