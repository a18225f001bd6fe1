"""The API does without the pages' middleware, and callers of neither notice."""

import pytest

from tests.people import APEX

SECURITY_HEADERS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@pytest.mark.parametrize("path", ["/v1/openapi.json", "/v1/nothing", "/v1/customers", "/"])
def test_the_api_and_the_pages_answer_with_the_same_security_headers(client, path):
    answer = client.get(path, headers={"Host": APEX})
    assert SECURITY_HEADERS.items() <= dict(answer.items()).items()
    assert "default-src 'none'" in answer["Content-Security-Policy"]
    assert int(answer["Content-Length"]) == len(answer.content)


def test_the_api_opens_no_session_and_the_pages_do(client):
    client.cookies["slipway"] = "a-session-of-somebodys"
    assert not hasattr(client.get("/v1/customers", headers={"Host": APEX}).wsgi_request, "session")
    assert hasattr(client.get("/", headers={"Host": APEX}).wsgi_request, "session")
