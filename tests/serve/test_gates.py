"""The gates around an application that does nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from tijepa.serve.metrics import Metrics
from tijepa.serve.middleware import BodyLimit, Concurrency, Limits, Watched


def scope(path: str = "/embed", headers: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    pairs = [(name.encode(), value.encode()) for name, value in headers]
    return {"type": "http", "method": "POST", "path": path, "headers": pairs}


class Sent:
    """What was sent, as status and headers."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    async def __call__(self, message: Any) -> None:
        self.messages.append(dict(message))

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}


async def silence() -> Any:
    await asyncio.Event().wait()


async def answer(send: Any, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_requests_beyond_the_bound_are_told_to_come_again() -> None:
    """Of three at once two run; afterwards there is room again. Other paths do not count."""

    async def main() -> None:
        release = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await release.wait()
            await answer(send)

        gate = Concurrency(app, most=2, counts=lambda path: path == "/embed")
        sent = [Sent() for _ in range(5)]
        running = [asyncio.create_task(gate(scope(), silence, sent[k])) for k in (0, 1)]
        await asyncio.sleep(0)
        await gate(scope(), silence, sent[2])
        assert sent[2].status == 429
        assert sent[2].headers["retry-after"] == "1"
        other = asyncio.create_task(gate(scope("/health"), silence, sent[3]))
        release.set()
        await asyncio.gather(*running, other)
        await gate(scope(), silence, sent[4])
        assert [sent[k].status for k in (0, 1, 3, 4)] == [200] * 4

    asyncio.run(main())


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()

        gate = BodyLimit(app, Limits(seconds=0.01))
        with pytest.raises(HTTPException, match=r"did not arrive within 0\.01 seconds") as caught:
            await gate(scope(headers=[("content-type", "multipart/form-data")]), silence, Sent())
        assert caught.value.status_code == 408

    asyncio.run(main())


def test_a_length_beyond_the_bound_is_refused_before_anything_is_read() -> None:
    """The answer is complete only after what was under way has been thrown away."""

    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            raise AssertionError("must not be reached")

        parts = [b"x" * 100, b"x" * 100, b""]
        sent = Sent()

        async def receive() -> Any:
            assert sent.messages[1]["more_body"], "the answer went out before the rest was read"
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        headers = [("content-type", "multipart/form-data"), ("content-length", "30000000")]
        await BodyLimit(app, Limits())(scope(headers=headers), receive, sent)
        assert sent.status == 413
        assert sent.headers["connection"] == "close"
        assert not parts
        assert not sent.messages[-1].get("more_body", False)

    asyncio.run(main())


def test_an_answer_is_counted_also_where_the_application_fails() -> None:
    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            raise RuntimeError

        metrics = Metrics()
        with pytest.raises(RuntimeError):
            await Watched(app, metrics)(scope(), silence, Sent())
        labels = {"method": "POST", "route": "other", "status": "500"}
        assert metrics.registry.get_sample_value("tijepa_requests_total", labels) == 1
        assert metrics.registry.get_sample_value("tijepa_running_requests") == 0

    asyncio.run(main())
