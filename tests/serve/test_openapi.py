"""The OpenAPI document against the server: whatever follows it or breaks it, there is no 5xx."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient


@pytest.mark.slow
def test_no_request_that_the_document_leads_to_makes_the_server_fail(
    serve: Callable[..., TestClient],
) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    from hypothesis import HealthCheck, Phase, given, settings

    client = serve(concurrency=33)  # a server of its own
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    seen: set[int] = set()
    operations = [one.ok() for one in schema.get_all_operations()]
    assert len(operations) == 11

    def check(operation: Any) -> None:
        @settings(
            max_examples=40,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def one(case: Any) -> None:
            sent = case.as_transport_kwargs(base_url="http://localhost:8000")
            sent.pop("cookies", None)
            answer = client.request(**_for_httpx(sent))
            seen.add(answer.status_code)
            assert answer.status_code < 500, (case.as_curl_command(), answer.text)
            if answer.status_code >= 400:
                assert answer.json().keys() == {"error"}

        one()

    for operation in operations:
        check(operation)
    assert {200, 422} <= seen


def _for_httpx(sent: dict[str, Any]) -> dict[str, Any]:
    """What requests takes as keyword arguments, for httpx; header values must be bytes there."""
    headers = {
        name: str(value).encode("latin-1", "replace")
        for name, value in (sent.pop("headers", None) or {}).items()
    }
    data = sent.pop("data", None)
    if isinstance(data, bytes | str):
        sent["content"] = data
    elif data is not None:
        sent["data"] = data
    return {**sent, "headers": headers}
