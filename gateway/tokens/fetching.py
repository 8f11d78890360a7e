"""One bounded exchange with an issuer: no redirect, no cookie, no decoding, a whole answer in time or a fault."""

from __future__ import annotations

import asyncio
import logging
import ssl
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any, Final

import httpx2

MAX_ANSWER_BYTES: Final = 1024 * 1024
TIMEOUT_SECONDS: Final = 5.0

# Facts: the library tells of each answer at level INFO, and how many there are is up to whoever sends tokens.
logging.getLogger("httpx2").setLevel(logging.WARNING)


class IssuerUnreachable(Exception):
    """The issuer gave no usable answer. The text is made for operators, and quotes no token and no secret."""


class IssuerClient:
    """Asks one URL of one issuer. Close it with `aclose`."""

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        ca_file: Path | None = None,
        max_connections: int = 2,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self.url = url
        # A query may hold a secret, and this is for logs.
        self._place = url.partition("?")[0]
        self._timeout = timeout_seconds
        self._max_answer_bytes = max_answer_bytes
        verify: ssl.SSLContext | bool = False
        if url.startswith("https:"):
            verify = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        self._client = httpx2.AsyncClient(
            verify=verify,
            # A proxy of the environment, a `.netrc` or a cookie would make another request of it than was configured.
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            follow_redirects=False,
            timeout=timeout_seconds,
            limits=httpx2.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
            headers={"accept": "application/json", "accept-encoding": "identity", "user-agent": "bearergate"},
        )

    async def get(self) -> bytes:
        """Raises: IssuerUnreachable"""
        return await self._ask("GET")

    async def post(self, form: dict[str, str], authorization: str) -> bytes:
        """Raises: IssuerUnreachable"""
        return await self._ask("POST", data=form, headers={"authorization": authorization})

    async def aclose(self) -> None:
        """Closes the connections that are kept open."""
        await self._client.aclose()

    async def _ask(self, method: str, **arguments: Any) -> bytes:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._answer(method, arguments)
        except TimeoutError as fault:
            raise IssuerUnreachable(f"`{self._place}` did not answer within {self._timeout:g} s") from fault
        except httpx2.TimeoutException as fault:
            raise IssuerUnreachable(f"`{self._place}` did not answer within {self._timeout:g} s") from fault
        # Also what the library leaves unwrapped, such as a TLS fault: the question has no answer.
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as fault:
            raise IssuerUnreachable(f"`{self._place}` cannot be asked ({type(fault).__name__})") from fault

    async def _answer(self, method: str, arguments: dict[str, Any]) -> bytes:
        async with self._client.stream(method, self.url, **arguments) as response:
            if response.status_code != 200:
                raise IssuerUnreachable(f"`{self._place}` answered {response.status_code}")
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise IssuerUnreachable(f"`{self._place}` answered in a coding that nobody asked for")
            read = bytearray()
            async for part in response.aiter_raw():
                read += part
                if len(read) > self._max_answer_bytes:
                    raise IssuerUnreachable(f"`{self._place}` answered more than {self._max_answer_bytes} bytes")
            return bytes(read)
