"""The labeler in this process, with plain transformers: slower than vLLM, but it runs anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from einops import einsum
from transformers import AutoModelForCausalLM

from interp_by_construction.config import LabelerConfig
from interp_by_construction.errors import LabelerError
from interp_by_construction.llm.backend import Answer, Job, ServerKind
from interp_by_construction.llm.digits import resolve_digits
from interp_by_construction.llm.embedded import local_path, served_dtype
from interp_by_construction.shown import excerpt


class TransformersBackend:
    """Runs one job at a time, so that no answer depends on the jobs around it."""

    def __init__(self, cfg: LabelerConfig, tokenizer: Any) -> None:
        self._cfg = cfg
        self._tokenizer = tokenizer

    @cached_property
    def _model(self) -> Any:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = getattr(torch, served_dtype(self._cfg.dtype, device))
        try:
            model = AutoModelForCausalLM.from_pretrained(
                local_path(self._cfg.model), dtype=dtype, trust_remote_code=False
            )
        except Exception as error:
            # A pickle that holds more than tensors, which is not read, has a type of its own.
            raise LabelerError(
                f"labeler.model={self._cfg.model} cannot be loaded: {excerpt(str(error))}"
            ) from error
        return model.eval().to(device)

    @cached_property
    def _digit_ids(self) -> list[int]:
        return list(resolve_digits(self._tokenizer, self._cfg.model).ids)

    def check(self, kinds: Sequence[ServerKind]) -> None:
        _ = self._model

    def close(self) -> None:
        self.__dict__.pop("_model", None)

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Answer]]:
        answers = {"digits": self._digits, "digit_logprobs": self._digit_logprobs}
        with torch.inference_mode():
            for index, job in enumerate(jobs):
                yield index, answers.get(job.kind, self._generate)(job)

    def _digits(self, job: Job) -> Answer:
        """Hidden states times the digit rows of the head only: the full logits of a long prompt
        would take a gigabyte."""
        input_ids = torch.tensor([job.payload["prompt"]], device=self._model.device)
        hidden = self._model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state[0]
        rows = self._model.get_output_embeddings().weight[self._digit_ids]
        logits = einsum(hidden.float(), rows.float(), "pos d_model, digit d_model -> pos digit")
        return Answer(np.asarray(logits.cpu().numpy(), dtype=np.float32), input_ids.shape[1])

    def _digit_logprobs(self, job: Job) -> Answer:
        """From the logits of the whole vocabulary, with whatever the model does to them behind its
        head."""
        input_ids = torch.tensor([job.payload["prompt"]], device=self._model.device)
        logits = self._model(input_ids=input_ids, use_cache=False).logits[0, -1:]
        logprobs = logits.float().log_softmax(dim=-1)[:, job.payload["digits"]]
        return Answer(np.asarray(logprobs.cpu().numpy(), dtype=np.float32), input_ids.shape[1])

    def _generate(self, job: Job) -> Answer:
        payload = job.payload
        if job.kind == "chat":
            text = self._tokenizer.apply_chat_template(
                payload["messages"], tokenize=False, add_generation_prompt=True
            )
            input_ids = self._tokenizer(text, add_special_tokens=False).input_ids
        else:
            input_ids = self._tokenizer(payload["prompt"]).input_ids
        n_prompt = len(input_ids)
        if n_prompt + payload["max_tokens"] > self._cfg.max_model_len:
            raise LabelerError(
                f"a prompt of {n_prompt} tokens and {payload['max_tokens']} more exceed "
                f"labeler.max_model_len={self._cfg.max_model_len}"
            )
        options: dict[str, Any] = {
            "max_new_tokens": payload["max_tokens"],
            "do_sample": payload["temperature"] > 0,
        }
        if options["do_sample"]:
            options |= {"temperature": payload["temperature"], "top_k": 0, "top_p": 1.0}
        if payload["stop"]:
            options |= {"stop_strings": payload["stop"], "tokenizer": self._tokenizer}
        ids = torch.tensor([input_ids], device=self._model.device)
        devices = [ids.device] if ids.is_cuda else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(payload["seed"])
            generated = self._model.generate(ids, attention_mask=torch.ones_like(ids), **options)
        output = generated[0, n_prompt:]
        text = self._tokenizer.decode(output, skip_special_tokens=True)
        for stop in payload["stop"]:
            text = text.split(stop, 1)[0]
        return Answer(text, n_prompt + len(output))
