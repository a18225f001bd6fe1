"""The transaction monolith: what Slipway is measured against.

User, tenant, roles, storage and mail inside one request and one transaction, as most sign-ups are
written first. The body, its checks, the key and the view's base class are Slipway's own: what
differs is when the steps are done, and nothing else.
"""

from uuid import uuid4

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.core.mail import send_mail
from django.db import connections, transaction
from django.http import HttpResponse
from django.urls import path
from rest_framework.request import Request

from config.api import answer, decode
from config.health import healthz
from onboarding import slugs
from onboarding.serializers import SignUp
from tenants import hosts, schemas
from tenants.auth import CallerView
from tenants.models import Domain, Membership, Tenant, User
from tenants.routers import as_operator
from tenants.states import Home, TenantStatus


class SignUpInline(CallerView):
    """POST /v1/onboard: everything at once, then 201."""

    def post(self, request: Request) -> HttpResponse:
        sign_up = decode(request, SignUp)
        with as_operator(), transaction.atomic(using="operator"):
            tenant = self._write(sign_up)
            storages["tenants"].save(f"tenant-{tenant.pk}/.mark", ContentFile(b"made"))
            send_mail("Welcome", f"{hosts.tenant_url(tenant.slug)}\n", None, [sign_up.email])
        return answer({"tenant": {"slug": tenant.slug}}, status=201)

    def _write(self, sign_up: SignUp) -> Tenant:
        with connections["operator"].cursor() as cursor:
            cursor.execute("select nextval('tenants_tenant_id_seq')")
            (number,) = cursor.fetchone()
        slug = slugs.from_name(sign_up.tenant_name)
        user = User(id=uuid4(), email=sign_up.email)
        user.set_unusable_password()
        user.save(force_insert=True)
        tenant = Tenant(
            id=number,
            uuid=uuid4(),
            slug=slug,
            name=sign_up.tenant_name,
            plan=sign_up.plan,
            home=Home.POOLED,
            status=TenantStatus.ACTIVE,
            schema_name=schemas.schema_name(number),
        )
        tenant.save(force_insert=True)
        Domain(domain=f"{slug}.{settings.TENANT_DOMAIN}", tenant_id=number, is_primary=True).save(
            force_insert=True
        )
        Membership(tenant_id=number, user_id=user.pk, role="owner").save(force_insert=True)
        return tenant


urlpatterns = [
    path("v1/onboard", SignUpInline.as_view()),
    path("healthz", healthz),
]
