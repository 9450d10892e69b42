"""`Labeler`: the one interface to the model that labels and simulates, whatever it runs on.

Every call is looked up in the cache first. What is missing goes to the backend, and each answer is
stored as it arrives. An answer depends on the call alone, not on the calls before or beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from interp_by_construction.config import LabelerConfig
from interp_by_construction.engine.progress import Loop, loop
from interp_by_construction.errors import LabelerError
from interp_by_construction.llm.adapted import adapter_of, labeler_source
from interp_by_construction.llm.backend import Backend, Job, Sampling, ServerKind
from interp_by_construction.llm.cache import CallCache, cache_key, decode, encode
from interp_by_construction.llm.call_locks import CallLocks
from interp_by_construction.llm.chat import Messages
from interp_by_construction.llm.context import check_context
from interp_by_construction.llm.digits import Digits, check_digits, probe_prompts, resolve_digits
from interp_by_construction.llm.embedded import load_tokenizer, local_path
from interp_by_construction.llm.http_backend import HttpBackend
from interp_by_construction.llm.identity import labeler_identity
from interp_by_construction.llm.replies import spoken
from interp_by_construction.llm.server_addresses import Endpoints, ManagedServers

_LOG = logging.getLogger(__name__)
CLAIMS = 4096
"""Calls that a process claims at a time. The kernel goes through all locks of a file for each that
is taken or released, so that claims on all calls at once would take time with their square."""


class Labeler:
    """Synchronous facade over cache and backend; a context manager. `make_backend` is called at
    the first cache miss, so that a run whose calls are all known starts nothing."""

    def __init__(
        self, cfg: LabelerConfig, cache: CallCache, make_backend: Callable[[Labeler], Backend]
    ) -> None:
        self.cfg = cfg
        self.cache = cache
        self.n_tokens = 0
        """Tokens that the backend has read and written."""
        self.verified = False
        """Whether the backend's digit logits were compared with the language model's."""
        self._locks = CallLocks(cache.path.with_suffix(".locks"))
        self._warned = False
        self._make_backend = make_backend
        self._backend: Backend | None = None

    @property
    def info(self) -> dict[str, str]:
        """For `summary.json`: model and backend."""
        return {"model": self.cfg.model, "backend": self.cfg.backend}

    @cached_property
    def identity(self) -> str:
        return labeler_identity(self.cfg)

    @cached_property
    def tuned(self) -> bool:
        """Whether the model has an adapter that knows the tasks: it is asked by short prompts,
        without solved examples."""
        return adapter_of(self.cfg) is not None

    @cached_property
    def tokenizer(self) -> Any:
        """The labeler's transformers tokenizer. Raises LabelerError if it cannot be loaded."""
        if self.cfg.tokenizer is not None:
            return load_tokenizer(local_path(self.cfg.tokenizer), self.cfg.model)
        return load_tokenizer(labeler_source(self.cfg), self.cfg.model)

    @cached_property
    def digits(self) -> Digits:
        """The tokens of the digits 0 to 9. Raises LabelerError if the tokenizer has none."""
        return resolve_digits(self.tokenizer, self.cfg.model)

    def check(self, kinds: Sequence[ServerKind] = ("generate",)) -> None:
        """Raises LabelerError now rather than at the first call if the backend cannot do what
        servers of these kinds do; starts managed servers."""
        self._get_backend().check(kinds)
        if "classify" in kinds:
            self._verify_digits()

    def complete(
        self, prompts: Sequence[str], sampling: Sampling, *, description: str = "complete"
    ) -> list[str]:
        """Continuations of the prompts, in order. Raises LabelerError."""
        payloads = [{"prompt": prompt} for prompt in prompts]
        return self._texts("completion", payloads, sampling, description)

    def chat(
        self,
        messages: Sequence[Messages],
        sampling: Sampling,
        *,
        response_format: Mapping[str, Any] | None = None,
        description: str = "chat",
    ) -> list[str]:
        """Replies to the conversations, in order; as `complete`, through the model's chat template.

        `response_format` asks for an answer of that form. A backend that knows no such thing
        answers in plain text.
        """
        form = {} if response_format is None else {"response_format": dict(response_format)}
        payloads = [{"messages": list(conversation), **form} for conversation in messages]
        return self._texts("chat", payloads, sampling, description)

    def digit_logits(
        self, prompts: Sequence[Sequence[int]], *, description: str = "simulate"
    ) -> list[np.ndarray]:
        """Logits of the digits 0 to 9 as next token after every position.

        Takes labeler token ids [pos] per prompt, gives float32 [pos, 10] per prompt. Raises
        LabelerError if a prompt is empty or longer than `labeler.max_model_len`, if the backend
        returns another number of positions, or if its logits are not the language model's (compared
        before the first call that is not cached).
        """
        for prompt in prompts:
            if not 0 < len(prompt) <= self.cfg.max_model_len:
                raise LabelerError(
                    f"a simulation prompt has {len(prompt)} tokens; it must have 1 to "
                    f"labeler.max_model_len={self.cfg.max_model_len}"
                )
        _ = self.digits
        jobs = [Job("digits", {"prompt": [int(token) for token in prompt]}) for prompt in prompts]
        return [np.asarray(value) for value in self._run(jobs, description)]

    def digit_logprobs(self, prompts: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Log-probabilities of the digits 0 to 9 as next token after each prompt [pos], float32
        [10] per prompt, from the path that generates text. Raises LabelerError, also where the
        server cannot tell."""
        digits = list(self.digits.ids)
        jobs = [
            Job("digit_logprobs", {"prompt": [int(token) for token in prompt], "digits": digits})
            for prompt in prompts
        ]
        return [np.asarray(value)[0] for value in self._run(jobs, "check digits")]

    def close(self) -> None:
        """Closes cache and backend. Managed servers stay up for the next labeler of this
        process."""
        if self._backend is not None:
            self._backend.close()
        self._backend = None
        self._locks.close()
        self.cache.close()

    def __enter__(self) -> Labeler:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _texts(
        self,
        kind: Literal["completion", "chat"],
        payloads: Sequence[Mapping[str, Any]],
        sampling: Sampling,
        description: str,
    ) -> list[str]:
        sampled = sampling.of(len(payloads))
        jobs = [Job(kind, {**p, **own}) for p, own in zip(payloads, sampled, strict=True)]
        said = [spoken(str(value)) for value in self._run(jobs, description)]
        if None in said and not self._warned:
            self._warned = True
            _LOG.warning(
                "%s thinks aloud and does not come to an answer: turn its thinking off, or take a "
                "model that answers at once. Such an answer counts as empty.",
                self.cfg.model,
            )
        return [each or "" for each in said]

    def _run(self, jobs: Sequence[Job], description: str) -> list[str | np.ndarray]:
        """Answers in the order of the jobs; equal jobs are asked once, also where several processes
        need them at one time."""
        keys = [
            cache_key({"labeler": self.identity, "kind": job.kind, **job.payload}) for job in jobs
        ]
        wanted = dict(zip(keys, jobs, strict=True))
        blobs = self._known(wanted)
        if missing := {key: job for key, job in wanted.items() if key not in blobs}:
            with loop(description, len(missing)) as shown:
                blobs |= self._answers(missing, shown)
        return [decode(blobs[key]) for key in keys]

    def _known(self, keys: Iterable[str]) -> dict[str, bytes]:
        return {key: blob for key in keys if (blob := self.cache.get(key)) is not None}

    def _answers(self, missing: Mapping[str, Job], shown: Loop) -> dict[str, bytes]:
        """key -> answer, of this process or of another one. What another process asks is waited
        for, call by call. If that process ends without an answer, the call is asked here."""
        blobs: dict[str, bytes] = {}
        while left := [key for key in missing if key not in blobs]:
            for first in range(0, len(left), CLAIMS):
                part = {key: missing[key] for key in left[first : first + CLAIMS]}
                blobs |= self._claim_and_ask(part, shown)
            for key in (key for key in left if key not in blobs):
                self._locks.wait(key)
                if (blob := self.cache.get(key)) is None:
                    break
                blobs[key] = blob
                shown.done += 1
        return blobs

    def _claim_and_ask(self, part: Mapping[str, Job], shown: Loop) -> dict[str, bytes]:
        """key -> answer, of the calls that no other process asks now."""
        mine = self._locks.take(list(part))
        try:
            # Between the look and the lock another process may have answered.
            blobs = self._known(mine)
            shown.done += len(blobs)
            for key in blobs:
                self._locks.release(key)
            if asked := {key: part[key] for key in mine if key not in blobs}:
                blobs |= self._ask(asked, shown)
        finally:
            for key in mine:
                self._locks.release(key)
        return blobs

    def _ask(self, missing: Mapping[str, Job], shown: Loop) -> dict[str, bytes]:
        """key -> answer; each is stored as it arrives, and then no longer locked."""
        if any(job.kind == "digits" for job in missing.values()):
            self._verify_digits()
        keys, blobs = list(missing), {}
        for index, answer in self._get_backend().run(list(missing.values())):
            key, blob = keys[index], encode(answer.value)
            self.cache.put(key, blob)
            self._locks.release(key)
            blobs[key] = blob
            self.n_tokens += answer.n_tokens
            shown.done += 1
        return blobs

    def _verify_digits(self) -> None:
        """Raises LabelerError unless the backend's digit logits are those of its language model.
        Does so once.

        The reference is cached like any call; the classifier is asked afresh. Endpoints of which
        only the classifier runs, or which give no log-probabilities of prompts, cannot be compared:
        that is logged, once per labeler.
        """
        if self.verified:
            return
        prompts = probe_prompts(self.tokenizer, self.digits)
        jobs = [Job("digits", {"prompt": prompt}) for prompt in prompts]
        answers = dict(self._get_backend().run(jobs))
        try:
            expected = self.digit_logprobs(prompts)
        except LabelerError as error:
            if self.cfg.backend != "endpoint":
                raise
            _LOG.warning(
                "the digit logits of labeler.classify_url are not compared with the language model's: %s",
                error,
            )
        else:
            given = [np.asarray(answers[index].value) for index in range(len(jobs))]
            check_digits(given, expected, self.digits, self.cfg.model)
        self.verified = True

    def _get_backend(self) -> Backend:
        if self._backend is None:
            self._backend = self._make_backend(self)
        return self._backend


def make_labeler(
    cfg: LabelerConfig, cache_path: Path, log_dir: Path, group: str = "labeler"
) -> Labeler:
    """The labeler that `cfg` describes. Starts nothing; raises LabelerError for settings that
    cannot work (`llm.context.check_context` among them).

    `cache_path` is the sqlite file of the per-call cache, whose directory's processes share managed
    servers; `log_dir` takes the logs of those that this process starts. `group` is that of `cfg` in
    the configuration, labeler or judge.
    """
    check_context(cfg)
    cache = CallCache(cache_path)
    if cfg.backend == "transformers":
        # It imports torch, which no other backend needs.
        from interp_by_construction.llm.local_backend import TransformersBackend

        return Labeler(cfg, cache, lambda labeler: TransformersBackend(cfg, labeler.tokenizer))
    servers = (
        Endpoints(cfg, group)
        if cfg.backend == "endpoint"
        else ManagedServers(cfg, log_dir, cache_path.parent, group)
    )
    return Labeler(cfg, cache, lambda labeler: HttpBackend(cfg, servers))
