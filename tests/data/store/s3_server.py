"""An S3 server of one bucket in memory on 127.0.0.1, as far as object storage needs it.

It speaks what Lance uses: GET with ranges, HEAD, PUT with If-None-Match, multipart uploads, DELETE
and the listing of version 2. Signatures are not checked.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

_DATE = "Mon, 01 Jan 2024 00:00:00 GMT"


class Bucket:
    """Objects by key, and what was asked of them."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.requests: list[str] = []
        self.lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bucket: Bucket

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def _target(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        key = unquote(parts.path).lstrip("/").partition("/")[2]
        self.bucket.requests.append(f"{self.command} {key}")
        return key, query

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", headers.pop("length", str(len(body))))
        self.send_header("Last-Modified", _DATE)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _missing(self, code: str, status: int) -> None:
        self._answer(status, f"<Error><Code>{code}</Code></Error>".encode())

    def do_GET(self) -> None:
        key, query = self._target()
        if "list-type" in query:
            self._answer(200, _listing(self.bucket, query))
            return
        data = self.bucket.objects.get(key)
        if data is None:
            self._missing("NoSuchKey", 404)
            return
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            self._answer(200, data, ETag=_tag(data))
            return
        first, last = asked.groups()
        start = int(first) if first else max(0, len(data) - int(last))
        stop = min(len(data), int(last) + 1 if first and last else len(data))
        span = f"bytes {start}-{stop - 1}/{len(data)}"
        self._answer(206, data[start:stop], Content_Range=span, ETag=_tag(data))

    def do_HEAD(self) -> None:
        key, _ = self._target()
        data = self.bucket.objects.get(key)
        if data is None:
            self._answer(404)
        else:
            self._answer(200, length=str(len(data)), ETag=_tag(data))

    def do_PUT(self) -> None:
        key, query = self._target()
        data = self.rfile.read(int(self.headers["Content-Length"]))
        with self.bucket.lock:
            if "uploadId" in query:
                self.bucket.uploads[query["uploadId"]][int(query["partNumber"])] = data
            elif self.headers.get("If-None-Match") == "*" and key in self.bucket.objects:
                self._missing("PreconditionFailed", 412)
                return
            else:
                self.bucket.objects[key] = data
        self._answer(200, ETag=_tag(data))

    def do_POST(self) -> None:
        key, query = self._target()
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.bucket.lock:
            if "uploads" in query:
                upload = f"upload-{len(self.bucket.uploads)}"
                self.bucket.uploads[upload] = {}
                text = f"<UploadId>{upload}</UploadId>"
                self._answer(200, _xml("InitiateMultipartUploadResult", text))
                return
            parts = self.bucket.uploads.pop(query["uploadId"])
            self.bucket.objects[key] = b"".join(parts[number] for number in sorted(parts))
        text = f"<ETag>{escape(_tag(self.bucket.objects[key]))}</ETag>"
        self._answer(200, _xml("CompleteMultipartUploadResult", text))

    def do_DELETE(self) -> None:
        key, _ = self._target()
        self.bucket.objects.pop(key, None)
        self._answer(204)


def _tag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def _xml(name: str, text: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?><{name}>{text}</{name}>'.encode()


def _listing(bucket: Bucket, query: dict[str, str]) -> bytes:
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    files, folders = [], set()
    for key in sorted(bucket.objects):
        if not key.startswith(prefix) or key <= query.get("start-after", ""):
            continue
        inner, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        if found:
            folders.add(prefix + inner + delimiter)
            continue
        data = bucket.objects[key]
        files.append(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(data)}</Size>"
            f"<LastModified>2024-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>{escape(_tag(data))}</ETag></Contents>"
        )
    common = "".join(
        f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in sorted(folders)
    )
    return _xml("ListBucketResult", f"<IsTruncated>false</IsTruncated>{''.join(files)}{common}")


@contextmanager
def serving() -> Iterator[tuple[Bucket, str]]:
    """The bucket and the endpoint's URL while the block runs."""
    bucket = Bucket()
    handler = type("Handler", (_Handler,), {"bucket": bucket})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield bucket, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
