"""One tenant's API of campaigns, and its customers."""

from customers.models import Customer
from tenants.context import tenant_context
from tests.people import bearer, tenant_key


class Desk:
    """The API with a key of the tenant's."""

    def __init__(self, client, tenant, *scopes: str) -> None:
        self.client, self.tenant = client, tenant
        self.headers = bearer(tenant_key(tenant, *scopes))

    def get(self, path, **headers):
        return self.client.get(f"/v1{path}", headers=self.headers | headers)

    def delete(self, path, **headers):
        return self.client.delete(f"/v1{path}", headers=self.headers | headers)

    def post(self, path, body=None, **headers):
        return self._send("post", path, body, headers)

    def patch(self, path, body=None, **headers):
        return self._send("patch", path, body, headers)

    def made(self, path, body):
        """What POST answered, which must have been 201 or 202."""
        answer = self.post(path, body)
        assert answer.status_code in {201, 202}, answer.json()
        return answer.json()

    def _send(self, method, path, body, headers):
        send = getattr(self.client, method)
        return send(
            f"/v1{path}", {} if body is None else body, content_type="application/json",
            headers=self.headers | headers,
        )  # fmt: skip

    def add(self, *rows):
        """Customers of the tenant's with these fields, past the API; in the order given."""
        with tenant_context(self.tenant):
            return Customer.objects.bulk_create([Customer(**row) for row in rows])

    def add_many(self, count, **fields):
        """Customers who may be written to, each with a number of its own: +4930100000, …01, …."""
        rows = [
            {"name": f"Customer {n}", "phone": f"+4930{100000 + n}", "consent": "given", **fields}
            for n in range(count)
        ]
        return self.add(*rows)


def pointers(answer, code=None):
    """Where the errors of a refused body are."""
    assert answer.status_code == 400, answer.content
    assert answer.headers["Content-Type"] == "application/problem+json"
    if code is not None:
        assert answer.json()["code"] == code
    return [error["pointer"] for error in answer.json()["errors"]]
