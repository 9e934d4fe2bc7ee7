"""What a request passes before an endpoint sees it: who asks, how many at once, how much it sends.

Plain ASGI middleware, outermost first: `Watched` counts and times, Starlette's
`TrustedHostMiddleware` knows the hosts (DNS rebinding), `Admission` the key, `Concurrency` bounds
requests in flight, `BodyLimit` bounds bytes and time while they stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tijepa.data.images import MAX_PIXELS
from tijepa.errors import ConfigError
from tijepa.serve.errors import refuse
from tijepa.serve.metrics import Metrics

SECURITY = (
    (b"content-security-policy", b"default-src 'self'; img-src 'self' blob: data:; "
     b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)  # fmt: skip
LINGER_SECONDS = 5.0  # a sender of too much may still be sending when he is told so
LINGER_BYTES = 64 * 2**20


class Watched:
    """Counts answers and their time by route, and adds the headers that keep a browser careful."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and note how it ended."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        started = time.perf_counter()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *SECURITY]
            await send(message)

        self._metrics.running.inc()
        try:
            await self._app(scope, receive, sending)
        finally:
            self._metrics.running.dec()
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.answered(
                _known(scope["method"]), route or "page", status, time.perf_counter() - started
            )


class Admission:
    """Refuses requests without the key, where there is one.

    `open_to_all` says of a path that it needs no key: the page's own files and the health check.
    """

    def __init__(
        self, app: ASGIApp, *, key: str | None, open_to_all: Callable[[str], bool]
    ) -> None:
        self._app = app
        self._key = None if key is None else key.encode()
        self._open = open_to_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 401."""
        closed = scope["type"] == "http" and not self._open(scope["path"])
        if closed and self._key is not None and not self._holds(Headers(scope=scope)):
            message = "the API key is missing or wrong: send Authorization: Bearer KEY"
            bearer = {"WWW-Authenticate": "Bearer"}
            await refuse(scope, receive, send, 401, message, bearer)
            return
        await self._app(scope, receive, send)

    def _holds(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        assert self._key is not None
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._key)


class Concurrency:
    """At most so many requests to the model at once; others are told to come again."""

    def __init__(self, app: ASGIApp, *, most: int, counts: Callable[[str], bool]) -> None:
        self._app = app
        self._most = most
        self._counts = counts
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 429 before anything of the body is read."""
        if scope["type"] != "http" or not self._counts(scope["path"]):
            await self._app(scope, receive, send)
            return
        if self._running >= self._most:
            message = f"{self._most} requests are running, as many as may: try again in a second"
            await refuse(scope, receive, send, 429, message, {"Retry-After": "1"})
            return
        self._running += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._running -= 1


class BodyLimit:
    """Refuses a body that is too long, from its header where that says so, else while it streams.

    The answer goes out at once. What the sender has under way is read and thrown away for a few
    seconds before the connection closes: closing at once would reset it and lose the answer.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 408 or 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        plain = not headers.get("content-type", "").startswith("multipart/")
        most = self._limits.form_bytes if plain else self._limits.upload_bytes
        message = f"the request exceeds the bound of {most:,} bytes"
        seen, over, complete = 0, False, False
        end = time.monotonic() + self._limits.seconds

        async def receiving() -> Message:
            nonlocal seen, over, complete
            if complete:
                return await receive()
            try:
                part = await asyncio.wait_for(receive(), max(0.0, end - time.monotonic()))
            except TimeoutError:
                over = True
                late = f"the request did not arrive within {self._limits.seconds:g} seconds"
                raise HTTPException(408, late) from None
            complete = part["type"] != "http.request" or not part.get("more_body", False)
            seen += len(part.get("body", b""))
            if seen > most:
                over = True
                raise HTTPException(413, message)
            return part

        async def sending(part: Message) -> None:
            if over and part["type"] == "http.response.start":
                part["headers"] = [*part.get("headers", ()), (b"connection", b"close")]
            last = part["type"] == "http.response.body" and not part.get("more_body", False)
            if over and last and not complete:
                await send({**part, "more_body": True})
                await _linger(receive)
                part = {"type": "http.response.body", "body": b""}
            await send(part)

        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > most:
            over = True
            await refuse(scope, receive, sending, 413, message)
            return
        await self._app(scope, receiving, sending)


async def _linger(receive: Receive) -> None:
    """Read and throw away what still comes, within bounds."""
    seen = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while seen < LINGER_BYTES:
                part = await receive()
                seen += len(part.get("body", b""))
                if part["type"] != "http.request" or not part.get("more_body", False):
                    return


def _known(method: str) -> str:
    """The method as a label; anything may be sent as one."""
    return method if method in ("GET", "HEAD", "POST", "OPTIONS") else "other"


# What one request may bring, and how many may run at once.


@dataclass(frozen=True)
class Limits:
    """Bounds of requests; what exceeds one is answered by 4xx before it costs anything.

    `upload_bytes` counts a whole request, `pixels` those of one image as its header states them,
    `text_length` the characters of one text. `concurrency` counts requests that the model works for
    or that wait for it; `seconds` is the time that a request's body may take to arrive. Raises
    `ConfigError` for a bound of 0 or less, or above what the decoder takes.
    """

    upload_bytes: int = 20 * 2**20
    pixels: int = 50_000_000
    text_length: int = 2000
    images: int = 16
    texts: int = 64
    concurrency: int = 32
    seconds: float = 30.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ConfigError(f"the limit {name} is {value}: it must be above 0")
        if self.pixels > MAX_PIXELS:
            raise ConfigError(
                f"the limit pixels is {self.pixels:,}: no image above {MAX_PIXELS:,} is decoded"
            )

    @property
    def form_bytes(self) -> int:
        """Bytes of a request without images: all its texts, at up to 12 bytes a character."""
        return 12 * self.text_length * self.texts + 65536  # %F0%9F%98%80 is one character

    @property
    def part_bytes(self) -> int:
        """Bytes of one text in a form with images: 4 a character at most."""
        return 4 * self.text_length + 1024
