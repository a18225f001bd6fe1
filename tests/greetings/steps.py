from jobs.outcomes import Outcome, Succeeded
from jobs.services import enqueue
from jobs.steps import Claim
from onboarding.ledger import Resource
from onboarding.steps.step import Context, Step
from tenants.context import tenant_context
from tests.greetings.models import Greeting


class Greet(Step):
    """The tenant's first greeting; the job makes it a loud one."""

    name = "greeting"

    def observe(self, ctx: Context) -> Resource | None:
        found = Greeting.objects.filter(pk=ctx.named(self.name)).first()
        return Resource(str(found.pk)) if found else None

    def apply(self, ctx: Context) -> Resource:
        id_ = ctx.named(self.name)
        Greeting(pk=id_, text=f"hello {ctx.tenant_name}").save(force_insert=True)
        enqueue("greetings.shout", tenant_id=ctx.tenant_id, args={"greeting": str(id_)})
        return Resource(str(id_))

    def undo(self, ctx: Context, recorded: Resource | None) -> None:
        Greeting.objects.all().delete()


def shout(claim: Claim) -> Outcome:
    with tenant_context(claim.tenant):
        greeting = Greeting.objects.get(pk=claim.data["args"]["greeting"])
        greeting.text = greeting.text.upper()
        greeting.save(update_fields=["text"])
    return Succeeded()
