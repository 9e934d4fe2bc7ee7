"""The server as a process of its own: addresses, keys, and how it stops."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.complaints import below_reading

from tijepa.cli import main
from tijepa.errors import ConfigError
from tijepa.serve.server import _allowed, check_address

KEY = "a-key-of-sixteen-letters"


@contextmanager
def server(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running server and its address; it chooses a free port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tijepa", "serve", *arguments, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            found = re.search(r"serving +(http://\S+)", line)
            if found:
                yield process, found[1]
                return
        raise AssertionError("".join(lines))
    finally:
        process.kill()
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()


def get(url: str) -> dict[str, object]:
    for _ in range(100):
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                found: dict[str, object] = json.load(answer)
                return found
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError):
                raise
            time.sleep(0.1)
    raise AssertionError(f"no answer from {url}")


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_who_sends_too_much_is_told_and_a_signal_to_stop_lets_running_requests_finish(
    number: signal.Signals, tiny_run: Path
) -> None:
    """Of 30 MB under way a part is read, and the answer arrives.

    The last request has sent half of its body when the signal comes, and is answered all the same.
    """
    with server(str(tiny_run), "--upload-mb", "1") as (process, address):
        get(f"{address}/health")
        _send_too_much(address)
        host, port = address.removeprefix("http://").split(":")
        body = b"text=a+ball"
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            head = f"POST /embed HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
            kind = "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
            connection.sendall((head + kind).encode() + body[:4])
            time.sleep(0.3)
            process.send_signal(number)
            time.sleep(0.3)
            connection.sendall(body[4:])
            answer = b""
            while b"dimensions" not in answer:
                part = connection.recv(65536)
                assert part, answer
                answer += part
        assert answer.startswith(b"HTTP/1.1 200")
        assert process.wait(30) == 0
        assert process.stdout is not None
        assert "stopped after 3 requests" in process.stdout.read()


def _send_too_much(address: str) -> None:
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = (
            f"POST /embed HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        )
        connection.sendall(head.encode())
        sending = threading.Thread(target=_send, args=(connection, 30), daemon=True)
        sending.start()
        answer = connection.recv(65536)
        sending.join(30)
    assert answer.startswith(b"HTTP/1.1 413")


def _send(connection: socket.socket, megabytes: int) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    try:
        for _ in range(megabytes):
            connection.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            part = bytes(1_000_000)
        connection.sendall(b"0\r\n\r\n")
    except OSError:
        return  # the server closed the connection, as it may


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_others_are_let_in_with_a_key_or_when_asked_for(host: str) -> None:
    with pytest.raises(ConfigError, match="TIJEPA_API_KEY, or say `open_to_all=True`"):
        check_address(host, None, False)
    check_address(host, KEY, False)
    check_address(host, None, True)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_this_machine_needs_no_key(host: str) -> None:
    check_address(host, None, False)
    check_address(host, KEY, False)
    with pytest.raises(ConfigError, match="`open_to_all` has no effect"):
        check_address(host, None, True)


@pytest.mark.parametrize("key", ["short", " " + KEY, KEY + "\n", "ä" * 20])
def test_a_key_that_is_weak_or_cannot_be_sent_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match="at least 16 ASCII characters"):
        check_address("127.0.0.1", key, False)


def test_a_key_beside_no_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="leave one of them out"):
        check_address("0.0.0.0", KEY, True)


def test_names_that_are_answered() -> None:
    """On loopback its own names and those given; elsewhere any, unless some are given."""
    assert _allowed("127.0.0.1", ()) == {"localhost", "127.0.0.1", "[::1]"}
    assert _allowed("::1", ("Photos.Example",)) >= {"[::1]", "photos.example"}
    assert _allowed("0.0.0.0", ()) is None
    assert _allowed("0.0.0.0", ("photos.example",)) == {"photos.example"}


def test_a_port_in_use_is_known_before_the_model_is_loaded(
    tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve", str(tiny_run), "--port", str(port)]) == 2
    expected = f"error: cannot listen on 127.0.0.1 port {port}: address already in use"
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 lets others reach the model"),
        (["--no-key"], "--no-key has no effect on 127.0.0.1"),
        (["--host", "no.such.host.invalid", "--no-key"], "cannot listen on no.such.host.invalid"),
        (["--megapixels", "101"], "'--megapixels'"),
        (["--checkpoint", "newest"], "neither best, last nor"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str],
    words: str,
    tiny_run: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TIJEPA_API_KEY", raising=False)
    assert main(["serve", str(tiny_run), "--port", "0", *arguments]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert below_reading(captured.err).count("\n") == 1


def test_a_folder_that_is_no_store_is_a_line(
    tiny_run: Path, pairs_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(tiny_run), str(pairs_folder), "--port", "0"]) == 2
    assert "is no store: make one with: tijepa prepare" in capsys.readouterr().err


def test_without_the_extra_the_line_to_install_it_is_said(
    tiny_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", str(tiny_run), "--port", "0"]) == 2
    assert "uvicorn is not installed: pip install 'tijepa[serve]'" in capsys.readouterr().err


def test_the_help_fits_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--help"]) == 0
    assert capsys.readouterr().out.count("\n") <= 24
