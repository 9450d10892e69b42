"""Where the labeler's servers listen: managed servers of this machine, or endpoints of others."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import NamedTuple

import httpx

from interp_by_construction.config import LabelerConfig
from interp_by_construction.config.credentials import key_ways, login_of
from interp_by_construction.errors import LabelerError
from interp_by_construction.llm.api_keys import api_key
from interp_by_construction.llm.backend import ServerKind
from interp_by_construction.llm.http_call import Reply, get, way
from interp_by_construction.llm.replies import read_json
from interp_by_construction.llm.server import ManagedServer, managed_server
from interp_by_construction.shown import excerpt, hide


class Address(NamedTuple):
    """Where one kind of server listens."""

    url: str
    api_key: str | None
    login: tuple[str, str] | None = None
    """User and password, in place of a key."""
    socket: str | None = None
    """The Unix socket that is asked in place of the host of `url`."""
    launch: str = ""
    """Which start of a managed server listens there."""

    @property
    def headers(self) -> dict[str, str]:
        if self.login is not None:
            coded = base64.b64encode(":".join(self.login).encode()).decode()
            hide(coded)
            return {"Authorization": f"Basic {coded}"}
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}


class ManagedServers:
    """Addresses of managed servers; asking for one starts it, or starts it again."""

    restartable = True

    def __init__(
        self, cfg: LabelerConfig, log_dir: Path, scope: Path, group: str = "labeler"
    ) -> None:
        self.group = group
        self._cfg, self._log_dir, self._scope = cfg, log_dir, scope

    def address(self, kind: ServerKind) -> Address:
        """Starts the server that answers `kind`, where none is up."""
        server = self._server(kind)
        server.start()
        record = server.record
        return Address(record.url, record.api_key, socket=record.socket, launch=record.launch)

    def end_if_it_hangs(self, kind: ServerKind, asked: Address) -> None:
        """To be called when a request was not answered in time. A server that hangs is ended, so
        that `address` starts another one."""
        self._server(kind).end_if_it_hangs(asked.launch)

    def _server(self, kind: ServerKind) -> ManagedServer:
        return managed_server(kind, self._cfg, self._log_dir, self._scope)


class Endpoints:
    """Addresses of servers that somebody else runs; each is asked once which models it serves."""

    restartable = False

    def end_if_it_hangs(self, kind: ServerKind, asked: Address) -> None:
        """Does nothing: others run these servers."""

    def __init__(self, cfg: LabelerConfig, group: str = "labeler") -> None:
        """group: that of `cfg` in the configuration, labeler or judge."""
        if not cfg.url and not cfg.classify_url:
            raise LabelerError(
                f"{group}=endpoint needs {group}.url=http://HOST:PORT (and {group}.classify_url for simulation)"
            )
        self.group = group
        self._cfg = cfg
        self._checked: set[str] = set()

    def address(self, kind: ServerKind) -> Address:
        """Raises LabelerError where the configuration names no server for `kind`, where that server
        does not serve the model, and for a key that cannot be used."""
        field = "url" if kind == "generate" else "classify_url"
        url = getattr(self._cfg, field)
        if not url:
            raise LabelerError(
                f"{self.group}=endpoint has no server for this call: set {self.group}.{field}=http://HOST:PORT"
            )
        key, login = api_key(self._cfg, self.group), login_of(url)
        if key is not None and login is not None:
            raise LabelerError(
                f"{self.group}.{field}={url} is given with a user and with an API key, and a request can carry "
                "only one of them: leave one out"
            )
        address = Address(url.rstrip("/").removesuffix("/v1"), key, login)
        if address.url not in self._checked:
            self._check(address, field)
            self._checked.add(address.url)
        return address

    def _check(self, address: Address, field: str) -> None:
        where = f"{self.group}.{field}={address.url}"
        reply = self._models(address, where)
        if reply.status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise LabelerError(
                f"{where} refuses the key (HTTP {reply.status}): {key_ways(self.group)}"
            )
        try:
            if not reply.is_success:
                raise LabelerError(f"HTTP {reply.status}: {excerpt(reply.text, 100)}")
            listed = read_json(reply, f"{address.url}/v1/models")["data"]
            served = {str(model["id"]): model.get("max_model_len") for model in listed}
        except (LabelerError, KeyError, TypeError, AttributeError) as error:
            reason = error if isinstance(error, LabelerError) else excerpt(reply.text, 100)
            raise LabelerError(
                f"{where} is no OpenAI-compatible server: /v1/models gave {reason}"
            ) from error
        if self._cfg.model not in served:
            names = excerpt(", ".join(served)) or "nothing"
            raise LabelerError(
                f"{where} serves {names}, not {self.group}.model={self._cfg.model}: set the right one"
            )
        # vLLM tells it, other servers do not.
        longest = served[self._cfg.model]
        if isinstance(longest, int) and self._cfg.max_model_len > longest:
            raise LabelerError(
                f"{where} reads at most {longest} tokens: set {self.group}.max_model_len={longest} "
                f"(it is {self._cfg.max_model_len})"
            )

    def _models(self, address: Address, where: str) -> Reply:
        try:
            seconds = min(self._cfg.timeout, 30.0)
            return get(f"{address.url}/v1/models", address.headers, seconds)
        except (TimeoutError, httpx.RequestError, httpx.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise LabelerError(
                f"{where} is unreachable{way(address.url)} ({reason}): start a server there (`ibc serve`) or fix the URL"
            ) from error
