"""Labeler calls over HTTP: to vLLM servers of this process, or to endpoints that are already
running."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import numpy as np

from interp_by_construction.config import LabelerConfig
from interp_by_construction.errors import LabelerError
from interp_by_construction.llm.backend import N_DIGITS, Answer, Job
from interp_by_construction.llm.chat import NO_TEMPLATE, extras_of, subsets, without
from interp_by_construction.llm.server_addresses import Endpoints, ManagedServers, certificates
from interp_by_construction.llm.vllm_command import ServerKind

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

    Timeouts, dropped connections, 429 and 5xx are retried `cfg.retries` times with growing delays;
    anything else is an error at once. A server that refuses `response_format` or system messages
    (400 or 422) and answers without them is asked without them from then on. The text of a system
    message then stands at the head of the user's.
    """

    def __init__(self, cfg: LabelerConfig, servers: ManagedServers | Endpoints) -> None:
        self._cfg = cfg
        self._servers = servers
        self.refused: set[str] = set()
        """What the server has refused of `chat.EXTRAS`."""

    def check(self) -> None:
        """Raises LabelerError unless the servers can be reached (managed ones are started)."""
        self._servers.address("generate")

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

        async def worker(http: httpx.AsyncClient) -> None:
            for index, job in pending:
                answers.put((index, await self._ask(http, job)))

        async def watch() -> None:
            while not stop.is_set():
                await asyncio.sleep(0.05)
            raise asyncio.CancelledError

        limits = httpx.Limits(max_connections=self._cfg.concurrency, keepalive_expiry=2.0)
        # Managed servers are on this machine: no proxy of the environment stands between.
        trust_env = not self._servers.restartable
        async with httpx.AsyncClient(
            timeout=self._cfg.timeout,
            limits=limits,
            trust_env=trust_env,
            verify=certificates(trust_env),
        ) as http:
            n_workers = min(self._cfg.concurrency, len(jobs))
            workers = [asyncio.create_task(worker(http)) for _ in range(n_workers)]
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

    async def _ask(self, http: httpx.AsyncClient, job: Job) -> Answer:
        known = [extra for extra in extras_of(job.payload) if extra in self.refused]
        payload = without(job.payload, known)
        last: _Refused | None = None
        for left_out in subsets(extras_of(payload)):
            try:
                answer = await self._send(http, Job(job.kind, without(payload, left_out)))
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

    async def _send(self, http: httpx.AsyncClient, job: Job) -> Answer:
        delay, reason, url = FIRST_DELAY, "", ""
        for attempt in range(self._cfg.retries + 1):
            address = await asyncio.to_thread(self._servers.address, _server_kind(job))
            url = address.url + _PATHS[job.kind]
            wait = delay
            try:
                response = await http.post(url, json=self._body(job), headers=address.headers)
            except httpx.TimeoutException:
                reason = f"no answer within labeler.timeout={self._cfg.timeout:g} s"
            except httpx.ConnectError as error:
                if not self._servers.restartable:
                    raise LabelerError(
                        f"labeler endpoint {url} is unreachable ({error}): is the server still running?"
                    ) from error
                reason = f"unreachable ({error})"
            except httpx.TransportError as error:
                reason = f"connection lost ({str(error) or type(error).__name__})"
            else:
                if response.is_success:
                    return _answer(job, response, url)
                reason = f"HTTP {response.status_code}: {response.text[:300]}"
                if (
                    response.status_code != httpx.codes.TOO_MANY_REQUESTS
                    and not response.is_server_error
                ):
                    raise _Refused(f"{url} refused the request with {reason}", response.status_code)
                wait = max(delay, _retry_after(response))
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


def _retry_after(response: httpx.Response) -> float:
    try:
        return min(float(response.headers.get("retry-after", "0")), 60.0)
    except ValueError:
        return 0.0


def _answer(job: Job, response: httpx.Response, url: str) -> Answer:
    """Reads a successful response. Raises LabelerError for a body that is not what was asked
    for."""
    try:
        body = response.json()
        n_tokens = int((body.get("usage") or {}).get("total_tokens") or 0)
        value: str | np.ndarray
        if job.kind == "digits":
            value = _logits(body["data"][0]["data"], len(job.payload["prompt"]), url)
        elif job.kind == "digit_logprobs":
            value = _logprobs(body["choices"], job.payload["digits"], url)
        else:
            choice = body["choices"][0]
            text = choice["text"] if job.kind == "completion" else choice["message"]["content"]
            value = str(text or "")
        return Answer(value, n_tokens)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise LabelerError(
            f"{url} gave an unexpected answer ({type(error).__name__}: {error}): {response.text[:300]}"
        ) from error


def _logprobs(choices: Any, digits: Sequence[int], url: str) -> np.ndarray:
    """float32 [1, 10] from one choice per digit: the log-probability of the last token of its
    prompt."""
    given = {int(choice["index"]): choice.get("prompt_logprobs") for choice in choices}
    if not all(given.get(index) for index in range(len(digits))):
        raise LabelerError(f"{url} gives no prompt_logprobs")
    values = [given[index][-1][str(digit)]["logprob"] for index, digit in enumerate(digits)]
    return np.asarray([values], dtype=np.float32)


def _logits(data: Any, n_positions: int, url: str) -> np.ndarray:
    """float32 [pos, 10] from base64 or nested lists; LabelerError unless there is one finite row
    per token of the prompt."""
    try:
        if isinstance(data, str):
            data = np.frombuffer(base64.b64decode(data, validate=True), dtype="<f4")
        logits = np.asarray(data).astype(np.float32).reshape(-1, N_DIGITS)
    except (binascii.Error, ValueError, TypeError) as error:
        raise LabelerError(
            f"{url} gave no rows of {N_DIGITS} logits: it must serve a token classifier over the digits"
        ) from error
    if len(logits) != n_positions:
        raise LabelerError(
            f"{url} gave logits for {len(logits)} positions of a prompt of {n_positions} tokens: turn prefix caching off"
        )
    if not np.isfinite(logits).all():
        raise LabelerError(f"{url} gave logits that are not finite numbers")
    return logits
