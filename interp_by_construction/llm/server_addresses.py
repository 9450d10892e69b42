"""Where the labeler's servers listen: managed servers of this machine, or endpoints of others."""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path
from typing import NamedTuple

import httpx

from interp_by_construction.config import LabelerConfig
from interp_by_construction.errors import LabelerError
from interp_by_construction.llm.server import managed_server
from interp_by_construction.llm.vllm_command import ServerKind


@cache
def certificates(trust_env: bool) -> ssl.SSLContext:
    """Whom an https server may be certified by. Reading it takes longer than most calls, so that
    all clients share it.

    trust_env: whether `SSL_CERT_FILE` and its like count.
    """
    return httpx.create_ssl_context(trust_env=trust_env)


class Address(NamedTuple):
    """Where one kind of server listens."""

    url: str
    api_key: str | None

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}


class ManagedServers:
    """Addresses of managed servers; asking for one starts it, or starts it again."""

    restartable = True

    def __init__(self, cfg: LabelerConfig, log_dir: Path, scope: Path) -> None:
        self._cfg, self._log_dir, self._scope = cfg, log_dir, scope

    def address(self, kind: ServerKind) -> Address:
        """Starts the server that answers `kind`, where none is up."""
        server = managed_server(kind, self._cfg, self._log_dir, self._scope)
        return Address(server.start(), server.api_key)


class Endpoints:
    """Addresses of servers that somebody else runs; each is asked once which models it serves."""

    restartable = False

    def __init__(self, cfg: LabelerConfig) -> None:
        if not cfg.url and not cfg.classify_url:
            raise LabelerError(
                "labeler=endpoint needs labeler.url=http://HOST:PORT (and labeler.classify_url for simulation)"
            )
        self._cfg = cfg
        self._checked: set[str] = set()

    def address(self, kind: ServerKind) -> Address:
        """Raises LabelerError where the configuration names no server for `kind`, or where that
        server does not serve the model."""
        field = "url" if kind == "generate" else "classify_url"
        url = getattr(self._cfg, field)
        if not url:
            raise LabelerError(
                f"labeler=endpoint has no server for this call: set labeler.{field}=http://HOST:PORT"
            )
        address = Address(url.rstrip("/").removesuffix("/v1"), self._cfg.api_key)
        if address.url not in self._checked:
            self._check(address, field)
            self._checked.add(address.url)
        return address

    def _check(self, address: Address, field: str) -> None:
        where = f"labeler.{field}={address.url}"
        try:
            timeout = min(self._cfg.timeout, 30.0)
            with httpx.Client(timeout=timeout, verify=certificates(True)) as http:
                response = http.get(f"{address.url}/v1/models", headers=address.headers)
            if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
                raise LabelerError(
                    f"{where} refuses the key (HTTP {response.status_code}): set labeler.api_key"
                )
            response.raise_for_status()
            served = {
                str(model["id"]): model.get("max_model_len") for model in response.json()["data"]
            }
        except (httpx.TransportError, httpx.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise LabelerError(
                f"{where} is unreachable ({reason}): start a server there (`ibc serve`) or fix the URL"
            ) from error
        except (httpx.HTTPStatusError, ValueError, KeyError, TypeError) as error:
            raise LabelerError(
                f"{where} is no OpenAI-compatible server: /v1/models gave {error}"
            ) from error
        if self._cfg.model not in served:
            raise LabelerError(
                f"{where} serves {', '.join(served) or 'nothing'}, not labeler.model={self._cfg.model}: set the right one"
            )
        # vLLM tells it, other servers do not.
        longest = served[self._cfg.model]
        if isinstance(longest, int) and self._cfg.max_model_len > longest:
            raise LabelerError(
                f"{where} reads at most {longest} tokens: set labeler.max_model_len={longest} "
                f"(it is {self._cfg.max_model_len})"
            )
