"""One tenant's API of customers, and the jobs that it begins, done when a test says so."""

from jobs.models import Job
from jobs.registry import kind
from tests.jobs.conftest import Engine
from tests.people import bearer, tenant_key

OPERATOR = "operator"
CSV, JSONL = "text/csv", "application/x-ndjson"


class Desk:
    """The customers API with a key of the tenant's."""

    def __init__(self, client, tenant, engine: Engine | None = None) -> None:
        self.client, self.tenant, self.engine = client, tenant, engine
        self.headers = bearer(tenant_key(tenant))

    def send(self, path, body, content_type=CSV, **headers):
        body = body.encode() if isinstance(body, str) else body
        path = f"/v1/customers{path}"
        return self.client.post(
            path, body, content_type=content_type, headers=self.headers | headers
        )

    def post(self, path, body=None, **headers):
        return self.client.post(
            f"/v1/customers{path}", body or {}, content_type="application/json",
            headers=self.headers | headers,
        )  # fmt: skip

    def get(self, path=""):
        return self.client.get(f"/v1/customers{path}", headers=self.headers)

    def patch(self, path, **fields):
        return self.client.patch(
            f"/v1/customers{path}", fields, content_type="application/json", headers=self.headers
        )

    def delete(self, path):
        return self.client.delete(f"/v1/customers{path}", headers=self.headers)

    def bring(self, body, content_type=CSV):
        """Send a file and have it taken in; what the API says of it then."""
        answer = self.send("/imports", body, content_type)
        assert answer.status_code == 202, answer.json()
        self.work()
        return self.get(f"/imports/{answer.json()['id']}").json()

    def claims(self):
        """The tenant's next jobs, in this test's hands."""
        return self.engine.claim("jobs", drainer=self.engine.drainer())

    def work(self):
        """Do the tenant's jobs until there is none."""
        while claims := self.claims():
            for claim in claims:
                self.engine.settle((claim, kind(claim.data["kind"]).step(claim)))

    def jobs(self):
        return Job.objects.using(OPERATOR).filter(tenant_id=self.tenant.pk)

    def by_external_id(self):
        """All customers, as the API shows them."""
        shown = {}
        path = "?limit=100"
        while path:
            listed = self.get(path).json()
            shown |= {row["external_id"]: row for row in listed["data"]}
            cursor = listed["next_cursor"]
            path = f"?limit=100&cursor={cursor}" if cursor else None
        return shown
