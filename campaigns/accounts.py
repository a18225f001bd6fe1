"""The only writer of provider accounts. Each service works in the current tenant's context.

Credentials are asked about at the provider, by one call outside any transaction, before an account
is made and before it leads elsewhere. They are encrypted where they are kept (webhooks.secrets),
and shown, logged or audited nowhere.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now
from django.utils import timezone
from yarl import URL

from campaigns import account_lanes
from campaigns.errors import (
    AccountInUse,
    AccountNotFound,
    CredentialsLost,
    InvalidAccount,
    NameTaken,
    TooManyAccounts,
)
from campaigns.models import Campaign, ProviderAccount
from campaigns.providers import Account, opened, provider, sealed
from campaigns.states import AccountStatus, CampaignState
from config.ids import format_id, uuid7
from config.problems import Conflict, FieldError
from tenants import audit
from tenants.allowances import allowances
from tenants.context import require_tenant
from tenants.models import Tenant
from webhooks.destinations import BadUrl, check_url
from webhooks.secrets import KeyLost

LIVE = (
    CampaignState.SCHEDULED,
    CampaignState.MATERIALISING,
    CampaignState.RUNNING,
    CampaignState.PAUSED,
)
LEAST_TIMEOUT, MOST_TIMEOUT = 1.0, 15.0  # Seconds for one request; campaigns.steps reads it.
# Seconds in which a change is surely committed: what is claimed meanwhile goes where it led before.
COMMITTED = 5.0
# The columns that a caller's fields are written to as they are.
_PLAIN = ("name", "rate", "max_in_flight", "mode")
_PACE = frozenset({"rate", "max_in_flight"})  # The lane says them too.
# What a provider is asked about anew.
_LEADS = frozenset({"base_url", "sender", "credentials", "options"})


def create(*, fields: Mapping[str, Any], actor: str) -> ProviderAccount:
    """Make an account of these `fields`: those of the model, `credentials` in the clear.

    Raises UnknownProvider, InvalidAccount, NameTaken, TooManyAccounts, CredentialsRefused,
    ProviderUnreachable.
    """
    name = fields["provider"]
    wanted = Account(
        id=uuid7(),
        provider=name,
        base_url=_spelled(fields.get("base_url") or provider(name).base_url),
        sender=fields["sender"],
        credentials=fields["credentials"],
        options=fields.get("options", {}),
    )
    _refuse_flawed(wanted)
    # Asked first, so that nobody's provider is called in vain.
    _refuse_taken(fields["name"])
    _refuse_too_many()
    provider(name).verify(wanted)
    account = ProviderAccount(id=wanted.id, provider=name, verified_at=timezone.now())
    _lead(account, wanted)
    _assign(account, fields)
    with _naming(), transaction.atomic():
        _refuse_too_many()
        account.save(force_insert=True)
        account_lanes.mirror(account)
        _record(account, "created", actor, after=_told(account))
        account.refresh_from_db()  # The database's own times.
    return account


def change(*, account_id: UUID, fields: Mapping[str, Any], actor: str) -> ProviderAccount:
    """Change the named fields and no others; `credentials` by name, null takes one away.

    Where it leads elsewhere, its credentials are to be sent anew: whoever may write accounts must
    not learn them by a base_url of their own.
    Raises AccountNotFound, InvalidAccount, NameTaken, CredentialsRefused, ProviderUnreachable,
    Conflict.
    """
    account = find(account_id)
    seen, before = account.updated_at, _told(account)
    wanted = None if _LEADS.isdisjoint(fields) else _changed(account, fields)
    if wanted is not None:
        provider(account.provider).verify(wanted)
    with _naming(), transaction.atomic():
        account = _locked(account_id)
        if account.updated_at != seen:
            raise Conflict("It was changed meanwhile. Read it again.")
        if wanted is not None:
            account_lanes.begin_afresh(account)
            if _leads_elsewhere(account, wanted):
                account.led_at = Now() + timedelta(seconds=COMMITTED)
            _lead(account, wanted)
            account.verified_at = timezone.now()
        _assign(account, fields)
        _save(account, *_PLAIN, *_LEADS, "verified_at", "led_at")
        if not _PACE.isdisjoint(fields):
            account_lanes.mirror(account)
        after = _told(account) | {"changed": sorted(fields)}
        _record(account, "changed", actor, before=before, after=after)
        account.refresh_from_db(fields=["led_at"])
    return account


def verify(*, account_id: UUID, actor: str) -> ProviderAccount:
    """Ask its provider again whether the credentials are good.

    Raises AccountNotFound, CredentialsLost, CredentialsRefused, ProviderUnreachable.
    """
    account = find(account_id)
    provider(account.provider).verify(clear(account))
    with transaction.atomic():
        account = _locked(account_id)
        account.verified_at = timezone.now()
        account.save(update_fields=["verified_at"])
        _record(account, "verified", actor)
    return account


def pause(*, account_id: UUID, reason: str, actor: str) -> bool:
    """Send nothing through it for now; what is under way comes to its end.

    Says whether it changed anything. Raises AccountNotFound.
    """
    with transaction.atomic():
        account = _locked(account_id)
        if account.status == AccountStatus.PAUSED:
            return False
        account.status = AccountStatus.PAUSED
        account.paused_reason = reason[:200]
        _save(account, "status", "paused_reason")
        account_lanes.shut(account, why="the account is paused")
        _record(account, "paused", actor, reason, {"status": "active"}, {"status": "paused"})
    return True


def resume(*, account_id: UUID, actor: str, reason: str = "") -> bool:
    """Send through it again, at once: what its lane was to wait for is forgotten, too.

    Says whether it changed anything. Raises AccountNotFound.
    """
    with transaction.atomic():
        account = _locked(account_id)
        held = account_lanes.open_again(account)
        if account.status == AccountStatus.ACTIVE and not held:
            return False
        before = {"status": str(account.status), "reason": account.paused_reason}
        account.status, account.paused_reason = AccountStatus.ACTIVE, ""
        _save(account, "status", "paused_reason")
        _record(account, "resumed", actor, reason, before, {"status": "active"})
    return True


def delete(*, account_id: UUID, actor: str, reason: str = "") -> None:
    """Send nothing through it any more, for good, and forget its credentials.

    Raises AccountNotFound, AccountInUse.
    """
    with transaction.atomic():
        account = _locked(account_id)
        live = Campaign.objects.filter(account_id=account_id, state__in=LIVE).count()
        if live:
            raise AccountInUse(f"Cancel {live}, or let them end.", campaigns=live)
        account.deleted_at = timezone.now()
        account.credentials = ""
        _save(account, "deleted_at", "credentials")
        account_lanes.open_again(account)  # So that what is tried again is told that it is gone.
        _record(account, "deleted", actor, reason, before=_told(account))


def find(account_id: UUID) -> ProviderAccount:
    """An account of the current tenant's. Raises AccountNotFound."""
    account = ProviderAccount.objects.filter(pk=account_id, deleted_at=None).first()
    if account is None:
        raise AccountNotFound
    return account


def clear(account: ProviderAccount) -> Account:
    """The account with its credentials. Raises CredentialsLost."""
    try:
        return opened(
            id=account.pk,
            provider=account.provider,
            base_url=account.base_url,
            sender=account.sender,
            credentials=account.credentials,
            options=orjson.dumps(account.options).decode(),
        )
    except KeyLost:
        raise CredentialsLost("Send them again: PATCH, with all of `credentials`.") from None


def credential_names(account: ProviderAccount) -> list[str]:
    """The names of its credentials; none of what cannot be read any more."""
    try:
        return list(clear(account).credentials)
    except CredentialsLost:
        return []


def limit() -> int:
    """How many accounts the current tenant may have (tenants.allowances)."""
    rows = Tenant.objects.filter(pk=require_tenant().id).values_list("plan", "limits")
    plan, limits = rows.first() or ("", {})
    return int(allowances(plan=plan, limits=limits)["accounts"])


# ---- What is wrong with one ----


def _refuse_flawed(wanted: Account, *more: FieldError) -> None:
    """Raises UnknownProvider; InvalidAccount with every error."""
    of_provider = Account(
        wanted.id,
        wanted.provider,
        wanted.base_url,
        wanted.sender,
        wanted.credentials,
        {name: value for name, value in wanted.options.items() if name != "timeout"},
    )
    errors = [*more, *_flaws(wanted), *provider(wanted.provider).flaws(of_provider)]
    if errors:
        raise InvalidAccount(errors=errors)


def _flaws(wanted: Account) -> Iterator[FieldError]:
    """What is wrong with an account of whatever provider."""
    if not wanted.base_url:
        yield FieldError("/base_url", "required", "This provider has no address of its own.")
    else:
        try:
            parts = URL(check_url(wanted.base_url))
        except BadUrl as error:
            yield FieldError("/base_url", "invalid_url", str(error))
        else:
            if parts.query_string or "?" in wanted.base_url:
                yield FieldError("/base_url", "invalid_url", "It ends before the question mark.")
    timeout = wanted.options.get("timeout", LEAST_TIMEOUT)
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        yield FieldError("/options/timeout", "wrong_type", "Expected a number of seconds.")
    elif not LEAST_TIMEOUT <= timeout <= MOST_TIMEOUT:
        message = f"From {LEAST_TIMEOUT:g} to {MOST_TIMEOUT:g} seconds."
        yield FieldError("/options/timeout", "out_of_range", message)


def _refuse_taken(name: str) -> None:
    if ProviderAccount.objects.filter(name=name, deleted_at=None).exists():
        raise NameTaken


def _refuse_too_many() -> None:
    """Raises TooManyAccounts. In a transaction, two at once are counted one after the other."""
    if connection.in_atomic_block:
        with connection.cursor() as cursor:
            key = f"campaigns_account:{require_tenant().id}"
            cursor.execute("select pg_advisory_xact_lock(hashtextextended(%s, 7))", [key])
    most = limit()
    if ProviderAccount.objects.filter(deleted_at=None).count() >= most:
        raise TooManyAccounts(f"There may be {most}.", limit=most)


@contextmanager
def _naming() -> Iterator[None]:
    """Say of a name that is there already that it is taken. Raises NameTaken."""
    try:
        yield
    except IntegrityError as error:
        if "account_name" in str(error):
            raise NameTaken from None
        raise


# ---- Rows ----


def _changed(account: ProviderAccount, fields: Mapping[str, Any]) -> Account | None:
    """The account as it would lead; None where it leads as before. Raises InvalidAccount."""
    try:
        kept = dict(clear(account).credentials)
    except CredentialsLost:
        kept = {}
    given = fields.get("credentials", {})
    merged = {name: value for name, value in {**kept, **given}.items() if value is not None}
    default = provider(account.provider).base_url
    base_url = _spelled(fields.get("base_url", account.base_url) or default)
    wanted = Account(
        id=account.pk,
        provider=account.provider,
        base_url=base_url,
        sender=fields.get("sender", account.sender),
        credentials=merged,
        options=fields.get("options", account.options),
    )
    moved = base_url != account.base_url
    unsaid = (
        [FieldError("/credentials", "required", _ANEW)] if moved and kept.keys() - given else []
    )
    _refuse_flawed(wanted, *unsaid)
    same = (merged, wanted.sender, wanted.options) == (kept, account.sender, account.options)
    return None if same and not moved else wanted


def _leads_elsewhere(account: ProviderAccount, wanted: Account) -> bool:
    """Whether who is asked then may know nothing of what was asked before (Message.moved)."""
    was = {name: value for name, value in account.options.items() if name != "timeout"}
    will = {name: value for name, value in wanted.options.items() if name != "timeout"}
    before = (account.base_url, account.sender, was)
    return before != (wanted.base_url, wanted.sender, will)


_ANEW = "It leads elsewhere: send each of the credentials again."


def _spelled(url: str) -> str:
    """The URL as it is kept; as it is given, where it is none."""
    try:
        return check_url(url).rstrip("/")
    except BadUrl:
        return url


def _lead(account: ProviderAccount, wanted: Account) -> None:
    account.base_url = wanted.base_url
    account.sender = wanted.sender
    account.credentials = sealed(wanted.credentials)
    account.options = dict(wanted.options)


def _assign(account: ProviderAccount, fields: Mapping[str, Any]) -> None:
    for name in _PLAIN:
        if name in fields:
            setattr(account, name, fields[name])


def _locked(account_id: UUID) -> ProviderAccount:
    """Lock the row, against campaigns that are being made for it, too."""
    rows = ProviderAccount.objects.select_for_update()
    account = rows.filter(pk=account_id, deleted_at=None).first()
    if account is None:
        raise AccountNotFound
    return account


def _save(account: ProviderAccount, *names: str) -> None:
    account.updated_at = timezone.now()
    account.save(update_fields=[*names, "updated_at"])


def _told(account: ProviderAccount) -> dict[str, Any]:
    """What the audit trail keeps."""
    return {"provider": account.provider, "host": URL(account.base_url).host or ""}


def _record(
    account: ProviderAccount,
    action: str,
    actor: str,
    reason: str = "",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    audit.record(
        actor=actor,
        action=f"account.{action}",
        target=format_id("acc", account.pk),
        tenant_id=require_tenant().id,
        reason=reason,
        before=before,
        after=after,
    )
