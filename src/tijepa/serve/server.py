"""From a run folder to a server that runs until it is stopped."""

from __future__ import annotations

import contextlib
import ipaddress
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from tijepa.errors import ConfigError, MissingExtraError
from tijepa.inference.embedder import Embedder
from tijepa.inference.loading import load
from tijepa.io.progress import Reporter
from tijepa.serve.middleware import Limits

if TYPE_CHECKING:
    from tijepa.serve.indexed_store import IndexedStore

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
GRACE = 30  # seconds that running requests get after the signal to stop


def serve_run(
    run: Path,
    store: str | None,
    reporter: Reporter,
    *,
    host: str,
    port: int,
    key: str | None,
    open_to_all: bool,
    names: tuple[str, ...],
    checkpoint: str | None,
    limits: Limits,
    wait: float,
    items: int,
) -> None:
    """Load the model, index what `store` got since, and answer requests until a signal to stop.

    `wait` (seconds) and `items` bound a batch. Raises `MissingExtraError` without the extra
    `serve`, `ConfigError` for an address that cannot be used or is open to others without a key,
    `CheckpointError` and `DataError` for a run or store that cannot be.
    """
    _check_extra()
    check_address(host, key, open_to_all)
    with _listening(host, port) as listener:
        import uvicorn

        from tijepa.serve.app import create_app
        from tijepa.serve.service import Service

        embedder = load(run, checkpoint=checkpoint)
        catalogue = None if store is None else _catalogue(embedder, store, reporter)
        _warm(embedder)
        service = Service(embedder, run, catalogue, limits=limits, wait=wait, items=items)
        app = create_app(service, key=key, hosts=_allowed(host, names))
        config = uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE,
            lifespan="on",
        )
        address = _url(host, listener.getsockname()[1])
        reporter.say(f"serving   {address}  (stop with Ctrl-C)")
        reporter.say(f"endpoints {address}/docs")
        with _quiet_stop():
            uvicorn.Server(config).run(sockets=[listener])
        answered = service.metrics.answers
        reporter.say(f"stopped after {answered:,} requests")


def check_address(host: str, key: str | None, open_to_all: bool) -> None:
    """Refuse an address that others can reach where no key keeps them out, unless asked for."""
    if key is not None and not (key.isascii() and key.strip() == key and len(key) >= 16):
        raise ConfigError("the API key needs at least 16 ASCII characters without outer spaces")
    if key is not None and open_to_all:
        raise ConfigError("`open_to_all` has no effect beside an API key: leave one of them out")
    if _is_loopback(host):
        if open_to_all:
            raise ConfigError(
                f"`open_to_all` has no effect on {host}, which only this machine reaches"
            )
        return
    if key is None and not open_to_all:
        raise ConfigError(
            f"`host={host}` lets others reach the model and the images: set an API key in"
            " TIJEPA_API_KEY, or say `open_to_all=True`"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _allowed(host: str, names: tuple[str, ...]) -> frozenset[str] | None:
    """Host headers that are answered: on loopback its names, so that no foreign page gets in."""
    if not _is_loopback(host):
        return frozenset(name.lower() for name in names) if names else None
    return frozenset({*LOOPBACK_NAMES, _bracketed(host), *(name.lower() for name in names)})


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _url(host: str, port: int) -> str:
    return f"http://{_bracketed(host)}:{port}"


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket, taken before the model is loaded: a port in use is known at once."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _unusable(host, port, error) from None
    with listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(2048)
        except OSError as error:
            raise _unusable(host, port, error) from None
        yield listener


def _unusable(host: str, port: int, error: OSError) -> ConfigError:
    reason = (error.strerror or str(error)).lower()
    return ConfigError(f"cannot listen on {host} port {port}: {reason}; choose another `port`")


def _catalogue(embedder: Embedder, store: str, reporter: Reporter) -> IndexedStore:
    from tijepa.search import Index
    from tijepa.serve.indexed_store import IndexedStore

    return IndexedStore(Index.build(embedder, store, reporter=reporter))


def _warm(embedder: Embedder) -> None:
    """One pair, so that the first request does not pay for what torch sets up."""
    import torch

    size = embedder.card.image_size
    embedder.embeddings_of_inputs(torch.zeros(1, 3, size, size), ["a"])


@contextlib.contextmanager
def _quiet_stop() -> Iterator[None]:
    """uvicorn raises the signals that stopped it once more when it is done; they are answered."""

    def done(number: int, frame: FrameType | None) -> None:
        return

    before = {one: signal.signal(one, done) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _check_extra() -> None:
    for package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        try:
            __import__(package)
        except ModuleNotFoundError:
            raise MissingExtraError(package.replace("_", "-"), "serve") from None
