"""The acts of `manage.py tenants`: what each asks for, does and says."""

from abc import ABC, abstractmethod
from argparse import ArgumentParser
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from django.conf import settings
from django.core.management.base import CommandError

from config.terminal import confirm, printable
from lifecycle import closing, erasing, exporting, plans, quarantine
from lifecycle.errors import MoveDelayed
from lifecycle.management import following, looking
from lifecycle.management.looking import tenant_of
from lifecycle.moving import undoing
from tenants import currencies, keys, services
from tenants.models import PlatformKey, Tenant
from tenants.scopes import PLATFORM_SCOPES, check_scopes
from tenants.services import OPERATOR
from tenants.states import TenantStatus

Options = Mapping[str, Any]
UNCHANGED = "nothing was changed."


@dataclass(frozen=True, slots=True)
class Said:
    """An answer: for people, and as JSON."""

    text: str
    value: Any


class Act(ABC):
    """One act. Raises Problem, or LookupError for what is not there."""

    help: ClassVar[str]
    changes: ClassVar[bool] = True  # Has --dry-run.
    explained: ClassVar[bool] = True  # Has --reason.

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Of one tenant, unless it is said otherwise."""
        parser.add_argument("tenant", help="Its slug, such as acme, or its id, tnt_….")

    @abstractmethod
    def run(self, options: Options, *, actor: str) -> Said:
        """Do it."""


class List(Act):
    help = "Tenants, newest first."
    changes = explained = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--status", choices=TenantStatus.values, help="In this state alone.")
        parser.add_argument("--plan", help="With this plan alone.")
        parser.add_argument("--limit", type=int, default=50, help="How many, at most (50).")

    def run(self, options: Options, *, actor: str) -> Said:
        found = looking.listed(options["status"], options["plan"], limit=options["limit"])
        lines = ["{slug:<42}{plan:<12}{home:<11}{status}".format(**row) for row in found]
        return Said(printable("\n".join(lines)), found)


class Show(Act):
    help = "Where one tenant stands, and what is under way with it."
    changes = explained = False

    def run(self, options: Options, *, actor: str) -> Said:
        shown = looking.shown(tenant_of(options["tenant"]))
        lines = [f"{name:<18}{looking.plain(value)}" for name, value in shown.items()]
        return Said(printable("\n".join(lines)), shown)


class _Move(Act):
    service: ClassVar[Any]

    def run(self, options: Options, *, actor: str) -> Said:
        tenant = tenant_of(options["tenant"])
        if options["dry_run"]:
            return Said(f"It is {tenant.status}; {UNCHANGED}", {"changed": False})
        said = {"actor": actor, "reason": options["reason"], **self.chosen(options)}
        changed = type(self).service(tenant_id=tenant.pk, **said)
        tenant.refresh_from_db(using=OPERATOR)
        return Said("Done." if changed else self.unchanged(tenant), {"changed": changed})

    def chosen(self, options: Options) -> dict[str, Any]:
        """What else the service is told."""
        return {}

    def unchanged(self, tenant: Tenant) -> str:
        return "It was so already."


class Suspend(_Move):
    help = "Suspend one tenant: 403, and its work waits."
    service = staticmethod(services.suspend)


class Reopen(_Move):
    help = "Reopen one that is suspended, or in its days of grace; its work goes on."
    service = staticmethod(services.reopen)

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--from",
            dest="source",
            choices=[TenantStatus.SUSPENDED, TenantStatus.CLOSING],
            help="What to lift. Needed for a suspension from before it was closed.",
        )

    def chosen(self, options: Options) -> dict[str, Any]:
        return {"source": options["source"]}

    def unchanged(self, tenant: Tenant) -> str:
        if tenant.status == TenantStatus.SUSPENDED:
            return "It is suspended, as it was when it was closed; --from suspended lifts that."
        return super().unchanged(tenant)


class Plan(Act):
    help = "Give one tenant another plan; its rows move where that means another home."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("plan", help="One of SLIPWAY['PLANS'].")
        parser.add_argument("--wait", action="store_true", help="Until the workers are done.")

    def run(self, options: Options, *, actor: str) -> Said:
        tenant = tenant_of(options["tenant"])
        if options["dry_run"]:
            home = plans.look(tenant=tenant, plan=options["plan"], using=OPERATOR)
            now = {"plan": tenant.plan, "home": tenant.home}
            then = f"{options['plan']} ({home})"
            words = f"It has {tenant.plan} ({tenant.home}), and can have {then}; {UNCHANGED}"
            return Said(words, now)
        move = plans.start(
            tenant_id=tenant.pk, plan=options["plan"], actor=actor, reason=options["reason"]
        )
        if options["wait"]:
            following.move(move, hidden=options["json"])
        value = {"id": f"mov_{move.pk}", "status": move.status, "phase": move.phase}
        return Said(f"{value['id']}: {move.status}, {move.phase}.", value)


class Currency(Act):
    help = "Say which currency one tenant's amounts are in; nothing is converted."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        wanted = "An active code of ISO 4217, such as EUR, or none: that of its sign-up."
        parser.add_argument("currency", help=wanted)

    def run(self, options: Options, *, actor: str) -> Said:
        tenant, wanted = tenant_of(options["tenant"]), options["currency"]
        if wanted != "none" and (flaw := currencies.flaw(wanted)):
            raise CommandError(f"{wanted!r}: {flaw[1]}")
        if not options["dry_run"]:
            services.set_currency(
                tenant_id=tenant.pk,
                currency=None if wanted == "none" else wanted,
                actor=actor,
                reason=options["reason"],
            )
            tenant.refresh_from_db(using=OPERATOR)
        now = currencies.currency_of(said=tenant.currency, metadata=tenant.metadata)
        words = f"Its amounts are in {now}" if now else "Nobody has said what its amounts are in"
        words += f"; {UNCHANGED}" if options["dry_run"] else "."
        return Said(words, {"currency": now})


class Export(Act):
    help = "Put everything of one tenant into an archive."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--file", help="Write it there, now, however long it takes.")
        parser.add_argument("--wait", action="store_true", help="Until the workers are done.")

    def run(self, options: Options, *, actor: str) -> Said:
        tenant = tenant_of(options["tenant"])
        if options["dry_run"]:
            counts = looking.rows_of(tenant)
            total = sum(counts.values())
            return Said(f"{total} rows in {len(counts)} tables; {UNCHANGED}", counts)
        if options["file"]:
            written = following.written(tenant, options, actor=actor)
            value = {"file": options["file"], "rows": written.rows, "files": written.files}
            return Said(f"{written.rows} rows in {options['file']}.", value)
        made = exporting.begin(tenant_id=tenant.pk, actor=actor, reason=options["reason"])
        if options["wait"]:
            following.export(made, hidden=options["json"])
        url = f"/v1/tenants/{tenant.slug}/exports/exp_{made.pk}/file"
        value = {"id": f"exp_{made.pk}", "status": made.status, "rows": made.rows, "file_url": url}
        return Said(f"exp_{made.pk}: {made.status}, {made.rows} rows. {url}", value)


class Close(Act):
    help = "Close one tenant: 410, days of grace, and then everything of it is deleted."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--now", action="store_true", help="Without grace. For good.")
        parser.add_argument("--confirm", metavar="SLUG", help="The slug again, with --now.")
        parser.add_argument("--wait", action="store_true", help="With --now: until it is purged.")

    def run(self, options: Options, *, actor: str) -> Said:
        tenant = tenant_of(options["tenant"])
        if options["dry_run"]:
            counts = looking.rows_of(tenant)
            words = f"It is {tenant.status}, with {sum(counts.values())} rows; {UNCHANGED}"
            return Said(words, {"status": tenant.status, "rows": counts})
        if options["now"]:
            _ask_again(tenant.slug, options["confirm"])
            close = closing.close_now
        else:
            close = closing.close
        changed = close(tenant_id=tenant.pk, actor=actor, reason=options["reason"])
        if options["now"] and options["wait"]:
            following.purge(tenant, hidden=options["json"])
        tenant.refresh_from_db(using=OPERATOR)
        value = {"changed": changed, "status": tenant.status, "closes_at": tenant.closes_at}
        until = f"It is {tenant.status}."
        if tenant.status == TenantStatus.CLOSING:
            until = f"It is closing; closes at {tenant.closes_at}."
        return Said(until if changed else f"It was so already. {until}", value)


def _ask_again(slug: str, said: str | None) -> None:
    """A second word for what nothing brings back. Raises CommandError."""
    if said is not None and said != slug:
        raise CommandError(f"--confirm says {said!r}, and it is {slug!r}.", returncode=2)
    question = f"Everything of {slug} will be deleted, now and for good."
    confirm(question, yes=said == slug)


class ErasePerson(Act):
    help = "Erase a member, an owner or an operator, by their address."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email", help="Their address.")
        parser.add_argument(
            "--leave-ownerless", action="store_true", help="Though nobody else owns a tenant."
        )
        parser.add_argument(
            "--yes", action="store_true", help="Do not ask; needed where there is no terminal."
        )

    def run(self, options: Options, *, actor: str) -> Said:
        found = erasing.look(email=options["email"])
        words = ", ".join(f"{name} {looking.plain(n)}" for name, n in found.counts().items())
        if options["dry_run"]:
            return Said(f"{words}; {UNCHANGED}", found.counts())
        confirm(f"{words}.", yes=options["yes"])
        erased = erasing.erase(
            email=options["email"],
            actor=actor,
            reason=options["reason"],
            ownerless=options["leave_ownerless"],
        )
        return Said("Erased.", erased.counts())


class Tidy(Act):
    help = "Old archives, addresses of the long closed, moves that nobody ends; beat does it too."
    explained = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Nothing."""

    def run(self, options: Options, *, actor: str) -> Said:
        has_owner = "owner" in settings.DATABASES  # Whose are the triggers of moves.
        if options["dry_run"]:
            value = {"archives": exporting.old().count(), "addresses": quarantine.over().count()}
            value["moves"] = undoing.left() if has_owner else 0
        else:
            value = {"archives": exporting.forget_old(), "addresses": quarantine.free()}
            value["moves"] = _tend_moves() if has_owner else 0
        words = ", ".join(f"{count} {name}" for name, count in value.items())
        return Said(f"{words}; {UNCHANGED}" if options["dry_run"] else f"{words}.", value)


def _tend_moves() -> int:
    try:
        return undoing.tend()
    except MoveDelayed as delay:
        raise CommandError(f"{delay} Call it again.") from None


class MakeKey(Act):
    help = "Make a key of the platform's; shown once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="Who has it: a back end, a person.")
        parser.add_argument("--scope", action="append", dest="scopes", help="All, unless named.")

    def run(self, options: Options, *, actor: str) -> Said:
        scopes = options["scopes"] or sorted(PLATFORM_SCOPES)
        if options["dry_run"]:
            check_scopes(scopes, among=PLATFORM_SCOPES)
            return Said(f"It would have {', '.join(scopes)}; {UNCHANGED}", {"scopes": scopes})
        made = keys.create_platform(
            name=options["name"], scopes=scopes, actor=actor, reason=options["reason"]
        )
        return Said(made.token, {"key": made.token, "prefix": made.key.prefix})


class RevokeKey(Act):
    help = "End a key of the platform's."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("prefix", help="What it begins with: slp_… up to the second _.")

    def run(self, options: Options, *, actor: str) -> Said:
        prefix = options["prefix"].removeprefix("slp_").partition("_")[0]
        if options["dry_run"]:
            live = PlatformKey.objects.using(OPERATOR).filter(prefix=prefix, revoked_at=None)
            return Said(f"{live.count()} to revoke; {UNCHANGED}", {"found": live.count()})
        keys.revoke_platform(prefix=prefix, actor=actor, reason=options["reason"])
        return Said("Done.", {"revoked": prefix})


ACTS: Mapping[str, Act] = {
    "list": List(),
    "show": Show(),
    "suspend": Suspend(),
    "reopen": Reopen(),
    "plan": Plan(),
    "currency": Currency(),
    "export": Export(),
    "close": Close(),
    "erase-person": ErasePerson(),
    "tidy": Tidy(),
    "make-key": MakeKey(),
    "revoke-key": RevokeKey(),
}
