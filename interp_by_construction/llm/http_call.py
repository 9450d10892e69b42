"""One HTTP request to an endpoint: bounded in time and in size, and never through a proxy to a
server on this machine."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

from interp_by_construction.errors import LabelerError
from interp_by_construction.shown import excerpt

MOST_BYTES = 32 * 2**20
"""Of a reply. Logits for a prompt of 128,000 tokens have 7 MB, as a list of numbers 25 MB."""
MOST_ERROR_BYTES = 2**16
"""Read of a reply that says that something is wrong."""


class Reply(NamedTuple):
    """What a server has sent."""

    status: int
    body: bytes
    headers: httpx.Headers

    @property
    def is_success(self) -> bool:
        return httpx.codes.is_success(self.status)

    @property
    def text(self) -> str:
        """Its beginning, for a message."""
        return self.body[:MOST_ERROR_BYTES].decode("utf-8", "replace")


class Clients:
    """HTTP clients of one event loop: one for servers that are asked directly, and one that heeds
    the proxies of the environment. Each is made when it is needed."""

    def __init__(self, concurrency: int, seconds: float) -> None:
        # Each request has a connection of its own. On one that is used again, whatever a server
        # has sent behind its reply would be taken for the reply to the next request.
        self._limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=0)
        self._seconds = seconds
        self._made: dict[bool | str, httpx.AsyncClient] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Clients:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def of(self, url: str, socket: str | None = None) -> httpx.AsyncClient:
        """socket: a Unix socket that is asked in place of the host of `url`. Raises LabelerError
        where the environment names a proxy that cannot be used."""
        key = socket or is_asked_directly(url)
        if key not in self._made:
            transport = None
            if socket is not None:
                transport = httpx.AsyncHTTPTransport(
                    verify=certificates(), limits=self._limits, uds=socket
                )
            try:
                client = httpx.AsyncClient(
                    timeout=self._seconds,
                    limits=self._limits,
                    trust_env=not key,
                    verify=certificates(),
                    transport=transport,
                )
            except (ImportError, ValueError, httpx.InvalidURL) as error:
                raise LabelerError(
                    f"{url} cannot be asked through the proxy of HTTP_PROXY, HTTPS_PROXY or ALL_PROXY "
                    f"({error}): correct that variable, or name the host in NO_PROXY"
                ) from error
            self._made[key] = await self._stack.enter_async_context(client)
        return self._made[key]

    async def ask(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: Any = None,
        socket: str | None = None,
    ) -> Reply:
        """The whole reply. socket: as in `of`.

        Raises TimeoutError where it is not complete in time, however steadily it comes,
        httpx.RequestError and httpx.InvalidURL as httpx does, and LabelerError for a reply of more
        than `MOST_BYTES`.
        """
        http = await self.of(url, socket)
        headers = {"Accept-Encoding": "identity", **headers}
        async with asyncio.timeout(self._seconds):
            try:
                async with http.stream(method, url, headers=headers, json=body) as response:
                    return await _whole(response, url)
            except httpx.TimeoutException as error:
                raise TimeoutError from error


async def _whole(response: httpx.Response, url: str) -> Reply:
    content, packed = bytearray(), _packing(response.headers, url)
    async for part in response.aiter_raw():
        content += (
            part if packed is None else _unpacked(packed, part, MOST_BYTES + 1 - len(content))
        )
        if not response.is_success and len(content) >= MOST_ERROR_BYTES:
            break
        if len(content) > MOST_BYTES:
            raise LabelerError(
                f"{url} sent more than {MOST_BYTES:,} bytes as one answer: is it the right server?"
            )
    else:
        if packed is not None and content and not packed.eof:
            raise httpx.DecodingError("its packed answer is cut")
    return Reply(response.status_code, bytes(content), response.headers)


def _packing(headers: httpx.Headers, url: str) -> zlib._Decompress | None:
    """What unpacks a reply, where a server packs it unasked. httpx would unpack it, too, but a few
    bytes to any size."""
    coding = headers.get("content-encoding", "").strip().lower()
    if coding in ("", "identity"):
        return None
    if coding in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    raise LabelerError(
        f"{url} sent an answer that is packed as {excerpt(coding, 40)}, although it was asked for a "
        "plain one: turn its compression off"
    )


def _unpacked(packed: zlib._Decompress, part: bytes, most: int) -> bytes:
    try:
        return packed.decompress(part, most)
    except zlib.error as error:
        raise httpx.DecodingError(f"its answer is not packed as it says: {error}") from error


def get(url: str, headers: dict[str, str], seconds: float) -> Reply:
    """`Clients.ask` for one GET, from any thread, also from one that runs an event loop."""

    async def ask() -> Reply:
        async with Clients(1, seconds) as clients:
            return await clients.ask("GET", url, headers)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, ask()).result()


def is_asked_directly(url: str) -> bool:
    """Whether no proxy stands between: for this machine, and for what NO_PROXY names."""
    host = urlsplit(url).hostname or ""
    return is_loopback(host) or bool(urllib.request.proxy_bypass(host))


def way(url: str) -> str:
    """How a URL is asked, for a message: ` through a proxy`, or nothing."""
    proxies = urllib.request.getproxies()
    used = [each for each in (urlsplit(url).scheme, "all") if each in proxies]
    through = f" through the proxy of {used[0].upper()}_PROXY" if used else ""
    return "" if is_asked_directly(url) else through


def is_loopback(host: str) -> bool:
    """Whether a host name or an address means this machine."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


@cache
def certificates() -> ssl.SSLContext:
    """Whom an https server may be certified by, SSL_CERT_FILE and its like included. Reading it
    takes longer than most calls, so that all clients share it."""
    return httpx.create_ssl_context(trust_env=True)
