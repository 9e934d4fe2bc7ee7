"""Clients in a process of their own: each sends its next request when the last one is answered.

    python -m serving.load ADDRESS CLIENTS SECONDS IMAGE

Prints one JSON object: seconds of every answer of status 200, and counts by status. A client that
is told to come again (429) waits for as long as Retry-After says, like a well-behaved one.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path

import httpx2

TEXTS = ("a red circle", "a large blue star", "two green rings", "a yellow square on the left")


async def client(
    http: httpx2.AsyncClient,
    number: int,
    image: bytes,
    end: float,
    latencies: list[float],
    seen: Counter[str],
) -> None:
    """Search by words, energy of an image, embedding of a text, in turn."""
    turn = number
    while time.perf_counter() < end:
        text = TEXTS[turn % len(TEXTS)]
        started = time.perf_counter()
        try:
            if turn % 3 == 0:
                answer = await http.post("/energy", files={"image": image}, data={"text": text})
            elif turn % 3 == 1:
                answer = await http.get("/search", params={"text": text, "k": 24})
            else:
                answer = await http.post("/embed", data={"text": text})
            status = str(answer.status_code)
        except httpx2.HTTPError as error:
            status = type(error).__name__
        seen[status] += 1
        if status == "200":
            latencies.append(time.perf_counter() - started)
        elif status == "429":
            await asyncio.sleep(float(answer.headers["retry-after"]))
        turn += 1


async def load(address: str, clients: int, seconds: float, image: bytes) -> None:
    """Each client on a connection of its own; requests begin within `seconds`."""
    latencies: list[float] = []
    seen: Counter[str] = Counter()
    bounds = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx2.AsyncClient(base_url=address, timeout=120, limits=bounds) as http:
        await http.get("/health")
        end = time.perf_counter() + seconds
        await asyncio.gather(
            *(client(http, k, image, end, latencies, seen) for k in range(clients))
        )
    print(json.dumps({"latencies": latencies, "statuses": dict(seen)}))


if __name__ == "__main__":
    address, clients, seconds, path = sys.argv[1:]
    asyncio.run(load(address, int(clients), float(seconds), Path(path).read_bytes()))
