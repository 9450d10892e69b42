"""Labeler calls over HTTP: to vLLM servers of this process, or to endpoints that are already
running."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import httpx

from interp_by_construction.config import LabelerConfig
from interp_by_construction.errors import LabelerError
from interp_by_construction.llm.backend import Answer, Job, ServerKind
from interp_by_construction.llm.chat import NO_TEMPLATE, extras_of, subsets, without
from interp_by_construction.llm.http_call import Clients, Reply, way
from interp_by_construction.llm.replies import Silence, answer_of
from interp_by_construction.llm.server_addresses import Endpoints, ManagedServers
from interp_by_construction.shown import excerpt

_LOG = logging.getLogger(__name__)
_PATHS = {
    "completion": "/v1/completions",
    "chat": "/v1/chat/completions",
    "digits": "/pooling",
    "digit_logprobs": "/v1/completions",
}
FIRST_DELAY, LAST_DELAY = 0.25, 8.0
"""Seconds between retries: doubled each time."""


class _Refused(LabelerError):
    """A request that the server will not answer however often it is asked."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class HttpBackend:
    """Runs jobs with at most `cfg.concurrency` requests in flight.

    Timeouts, dropped connections, 429, 5xx and replies without a text are retried `cfg.retries`
    times with growing delays. Anything else is an error at once. A server that refuses
    `response_format` or system messages (400 or 422) and answers without them is asked without them
    from then on. The text of a system message then stands at the head of the user's.
    """

    def __init__(self, cfg: LabelerConfig, servers: ManagedServers | Endpoints) -> None:
        self._cfg = cfg
        self._servers = servers
        self._group = servers.group
        self.refused: set[str] = set()
        """What the server has refused of `chat.EXTRAS`."""

    def check(self, kinds: Sequence[ServerKind]) -> None:
        """Raises LabelerError unless these servers can be reached (managed ones are started)."""
        for kind in kinds:
            self._servers.address(kind)

    def close(self) -> None:
        """Does nothing: managed servers belong to the process and are shared."""

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Answer]]:
        # Servers start in this thread, so that Ctrl-C works during the half minute that it takes.
        for kind in sorted({_server_kind(job) for job in jobs}):
            self._servers.address(kind)
        answers: queue.Queue[tuple[int, Answer] | BaseException] = queue.Queue()
        stop = threading.Event()
        thread = threading.Thread(
            target=self._serve, args=(jobs, answers, stop), daemon=True, name="labeler"
        )
        thread.start()
        try:
            for _ in jobs:
                answer = answers.get()
                if isinstance(answer, BaseException):
                    raise answer
                yield answer
        finally:
            stop.set()
            thread.join(timeout=5.0)

    def _serve(self, jobs: Sequence[Job], answers: queue.Queue[Any], stop: threading.Event) -> None:
        """Body of the thread that holds the event loop."""
        try:
            asyncio.run(self._all(jobs, answers, stop))
        except BaseException as error:  # handed to the caller's thread, which raises it
            answers.put(error)

    async def _all(
        self, jobs: Sequence[Job], answers: queue.Queue[Any], stop: threading.Event
    ) -> None:
        pending = iter(enumerate(jobs))

        async def worker(clients: Clients) -> None:
            for index, job in pending:
                answers.put((index, await self._ask(clients, job)))

        async def watch() -> None:
            while not stop.is_set():
                await asyncio.sleep(0.05)
            raise asyncio.CancelledError

        async with Clients(self._cfg.concurrency, self._cfg.timeout) as clients:
            n_workers = min(self._cfg.concurrency, len(jobs))
            workers = [asyncio.create_task(worker(clients)) for _ in range(n_workers)]
            watcher = asyncio.create_task(watch())
            try:
                done: asyncio.Future[Any] = asyncio.gather(*workers)
                both: list[asyncio.Future[Any]] = [done, watcher]
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                if done.done():
                    await done
            finally:
                for task in (*workers, watcher):
                    task.cancel()
                # Of `done` too, which is cancelled with its workers: asyncio would report it.
                await asyncio.gather(done, watcher, return_exceptions=True)
                await asyncio.gather(*workers, return_exceptions=True)

    async def _ask(self, clients: Clients, job: Job) -> Answer:
        known = [extra for extra in extras_of(job.payload) if extra in self.refused]
        payload = without(job.payload, known)
        last: _Refused | None = None
        for left_out in subsets(extras_of(payload)):
            try:
                answer = await self._send(clients, Job(job.kind, without(payload, left_out)))
            except _Refused as refusal:
                if refusal.status not in (
                    httpx.codes.BAD_REQUEST,
                    httpx.codes.UNPROCESSABLE_ENTITY,
                ):
                    raise
                # If another part of the request is wrong, the plainest one is refused, too. Then
                # nothing is remembered.
                last = refusal
            else:
                for extra in left_out:
                    if extra not in self.refused:
                        self.refused.add(extra)
                        _LOG.warning("%s; labels are asked for without %s instead", last, extra)
                return answer
        assert last is not None, "the request was sent as it is"
        if job.kind == "chat" and "template" in str(last):
            raise LabelerError(f"{last}. Maybe {NO_TEMPLATE}") from last
        raise last

    async def _send(self, clients: Clients, job: Job) -> Answer:
        delay, reason, url = FIRST_DELAY, "", ""
        for attempt in range(self._cfg.retries + 1):
            address = await asyncio.to_thread(self._servers.address, _server_kind(job))
            url = address.url + _PATHS[job.kind]
            wait = delay
            try:
                reply = await clients.ask(
                    "POST", url, address.headers, self._body(job), address.socket
                )
            except TimeoutError:
                kind = _server_kind(job)
                await asyncio.to_thread(self._servers.end_if_it_hangs, kind, address)
                reason = f"no answer within {self._group}.timeout={self._cfg.timeout:g} s"
            except httpx.ConnectError as error:
                if not self._servers.restartable:
                    raise LabelerError(
                        f"{self._group} endpoint {url} is unreachable{way(url)} ({error}): is the server still running?"
                    ) from error
                reason = f"unreachable ({error})"
            except httpx.RequestError as error:
                reason = f"connection lost ({str(error) or type(error).__name__})"
            else:
                if reply.is_success:
                    try:
                        return answer_of(job, reply, url, self._cfg.model)
                    except Silence as error:
                        reason = str(error)
                else:
                    reason = f"HTTP {reply.status}: {excerpt(reply.text)}"
                    busy = reply.status == httpx.codes.TOO_MANY_REQUESTS
                    if not busy and not httpx.codes.is_server_error(reply.status):
                        raise _Refused(f"{url} refused the request with {reason}", reply.status)
                    wait = max(delay, _retry_after(reply))
            if attempt < self._cfg.retries:
                await asyncio.sleep(wait)
                delay = min(2 * delay, LAST_DELAY)
        raise LabelerError(
            f"{url} failed {self._cfg.retries + 1} times, the last time with {reason}"
        )

    def _body(self, job: Job) -> dict[str, Any]:
        if job.kind == "digits":
            body: dict[str, Any] = {
                "input": job.payload["prompt"],
                "task": "token_classify",
                "encoding_format": "base64",
                "embed_dtype": "float32",
                "endianness": "little",
            }
        elif job.kind == "digit_logprobs":
            # vLLM always gives the log-probability of the prompt's own tokens: one prompt per
            # digit.
            prompts = [[*job.payload["prompt"], digit] for digit in job.payload["digits"]]
            body = {"prompt": prompts, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        else:
            body = {"n": 1, "top_p": 1.0, **job.payload}
            if not body["stop"]:
                del body["stop"]
        return {"model": self._cfg.model, **body}


def _server_kind(job: Job) -> ServerKind:
    return "classify" if job.kind == "digits" else "generate"


def _retry_after(reply: Reply) -> float:
    try:
        return min(float(reply.headers.get("retry-after", "0")), 60.0)
    except ValueError:
        return 0.0
