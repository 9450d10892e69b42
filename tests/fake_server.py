"""An in-process stand-in for the two vLLM servers, behind the same HTTP interface: deterministic, with failures on
demand.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

Failure = int | str
"""An HTTP status to answer with, or `timeout` (sleeps), `short` (a position is missing), `garbage` (no JSON), `drop`
(closes).
"""


def fake_text(prompt: str, seed: int, temperature: float) -> str:
    """A label of two words that depends on the arguments alone."""
    words = ("red", "old", "small", "loud", "round", "warm", "wet", "late", "soft", "sharp")
    nouns = ("animals", "colors", "verbs", "names", "foods", "places", "numbers", "tools", "feelings", "plants")
    digest = hashlib.sha256(f"{prompt}|{seed if temperature > 0 else 0}".encode()).digest()
    return f" {words[digest[0] % 10]} {nouns[digest[1] % 10]} {digest[2]}"


def fake_logits(prompt: list[int]) -> np.ndarray:
    """float32 [pos, 10]; a row depends on the tokens up to its position, as in a causal model."""
    rows, state = [], hashlib.sha256()
    for token in prompt:
        state.update(str(token).encode() + b",")
        rows.append(np.frombuffer(state.copy().digest()[:10], dtype=np.uint8))
    return np.stack(rows).astype(np.float32) / 32.0


class FakeServer:
    """Serves `model` on a free loopback port; use as a context manager.

    `failures` is consumed one per model call; `requests` lists (path, body) of all of them; `in_flight_max` is the
    highest number of calls at one time. `text_of(prompt, seed, temperature)` may replace the answers.
    """

    def __init__(self, model: str = "smollm2", api_key: str | None = None) -> None:
        self.model = model
        self.api_key = api_key
        self.failures: deque[Failure] = deque()
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.in_flight = 0
        self.in_flight_max = 0
        self.delay = 0.0
        self.timeout_sleep = 2.0
        self.text_of: Callable[[str, int, float], str] = fake_text
        self.logits_of: Callable[[list[int]], np.ndarray] = fake_logits
        self.reference_of: Callable[[list[int]], np.ndarray] | None = None
        """The generating model's digit logits where they differ from `logits_of`."""
        self.offers_prompt_logprobs = True
        self.lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> FakeServer:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, path: str, body: dict[str, Any], short: bool) -> dict[str, Any]:
        """The successful response to one call."""
        if path == "/pooling":
            logits = self.logits_of(body["input"])[1 if short else 0 :]
            data: Any = logits.astype("<f4").tolist()
            if body.get("encoding_format") == "base64":
                data = base64.b64encode(logits.astype("<f4").tobytes()).decode()
            return {"data": [{"index": 0, "data": data}], "usage": {"total_tokens": len(body["input"])}}
        if "prompt_logprobs" in body:
            return {"choices": [self._digit_choice(i, prompt) for i, prompt in enumerate(body["prompt"])], "usage": {}}
        prompt = body["prompt"] if path == "/v1/completions" else json.dumps(body["messages"])
        text = self.text_of(prompt, body.get("seed", 0), body.get("temperature", 1.0))
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        choice |= {"text": text} if path == "/v1/completions" else {"message": {"role": "assistant", "content": text}}
        return {"choices": [choice], "usage": {"total_tokens": len(prompt.split())}}

    def _digit_choice(self, digit: int, prompt: list[int]) -> dict[str, Any]:
        """The prompt ends with the token of `digit`, to which the model gives half of its digit probability (the rest is text)."""
        choice: dict[str, Any] = {"index": digit, "text": " a"}
        if self.offers_prompt_logprobs:
            logits = (self.reference_of or self.logits_of)(prompt[:-1])[-1].astype(np.float64)
            logprob = logits[digit] - np.log(np.exp(logits).sum()) - np.log(2.0)
            choice["prompt_logprobs"] = [None, *[{}] * (len(prompt) - 2), {str(prompt[-1]): {"logprob": float(logprob)}}]
        return choice


def _handler(server: FakeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

        def do_GET(self) -> None:
            if self.path == "/health":
                self._send(200, b"")
            elif self.path == "/v1/models" and self._authorized():
                self._send(200, json.dumps({"data": [{"id": server.model}]}).encode())
            else:
                self._send(404 if self.path != "/v1/models" else 401, b"{}")

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with server.lock:
                server.requests.append((self.path, body))
                failure = server.failures.popleft() if server.failures else None
                server.in_flight += 1
                server.in_flight_max = max(server.in_flight_max, server.in_flight)
            try:
                self._answer(body, failure)
            finally:
                with server.lock:
                    server.in_flight -= 1

        def _answer(self, body: dict[str, Any], failure: Failure | None) -> None:
            time.sleep(server.timeout_sleep if failure == "timeout" else server.delay)
            if not self._authorized():
                self._send(401, b'{"error": "unauthorized"}')
            elif body.get("model") != server.model:
                self._send(404, b'{"error": "no such model"}')
            elif isinstance(failure, int):
                self._send(failure, json.dumps({"error": f"scripted {failure}"}).encode())
            elif failure == "garbage":
                self._send(200, b"<html>not json</html>")
            elif failure == "drop":
                self.close_connection = True
            elif self.path in ("/pooling", "/v1/completions", "/v1/chat/completions"):
                self._send(200, json.dumps(server.answer(self.path, body, failure == "short")).encode())
            else:
                self._send(404, b"{}")

        def _authorized(self) -> bool:
            return server.api_key is None or self.headers.get("authorization") == f"Bearer {server.api_key}"

        def _send(self, status: int, content: bytes) -> None:
            try:
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except (BrokenPipeError, ConnectionResetError):
                # The client gave up waiting, as the timeout tests want it to.
                self.close_connection = True

    return Handler
