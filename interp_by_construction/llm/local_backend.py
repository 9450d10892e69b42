"""The labeler in this process, with plain transformers: slower than vLLM, but it runs anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from einops import einsum
from jinja2 import TemplateError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from interp_by_construction.config import LabelerConfig
from interp_by_construction.errors import LabelerError
from interp_by_construction.llm.adapted import labeler_source
from interp_by_construction.llm.backend import Answer, Job, ServerKind
from interp_by_construction.llm.chat import NO_TEMPLATE, Messages, has_system, without_system
from interp_by_construction.llm.digits import resolve_digits
from interp_by_construction.llm.embedded import served_dtype
from interp_by_construction.llm.pretrained import CheckpointError, first_line, read_weights
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
            model = read_weights(AutoModelForCausalLM, labeler_source(self._cfg), dtype=dtype)
        except CheckpointError as error:
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
        """The model with the digit rows of its head only: the full logits of a long prompt would
        take a gigabyte. What the model does to logits behind its head (Gemma 2 caps them), it does
        to these."""
        input_ids = torch.tensor([job.payload["prompt"]], device=self._model.device)
        head = self._model.get_output_embeddings()
        self._model.set_output_embeddings(_DigitHead(head, self._digit_ids))
        try:
            logits = self._model(input_ids=input_ids, use_cache=False).logits[0].float()
        finally:
            self._model.set_output_embeddings(head)
        return Answer(np.asarray(logits.cpu().numpy(), dtype=np.float32), input_ids.shape[1])

    def _digit_logprobs(self, job: Job) -> Answer:
        """From the logits of the whole vocabulary, with whatever the model does to them behind its
        head."""
        input_ids = torch.tensor([job.payload["prompt"]], device=self._model.device)
        logits = self._model(input_ids=input_ids, use_cache=False).logits[0, -1:]
        logprobs = logits.float().log_softmax(dim=-1)[:, job.payload["digits"]]
        return Answer(np.asarray(logprobs.cpu().numpy(), dtype=np.float32), input_ids.shape[1])

    def _as_text(self, messages: Messages) -> str:
        """A conversation through the model's chat template. The text of a system message stands at
        the head of the user's where the template refuses the role."""
        if not self._tokenizer.chat_template:
            raise LabelerError(f"labeler.model={self._cfg.model}: {NO_TEMPLATE}")
        forms = [messages, without_system(messages)] if has_system(messages) else [messages]
        for form in forms:
            try:
                return str(
                    self._tokenizer.apply_chat_template(
                        form, tokenize=False, add_generation_prompt=True
                    )
                )
            except TemplateError as error:
                reason = error
        raise LabelerError(
            f"the chat template of labeler.model={self._cfg.model} refuses the question "
            f"({first_line(reason)}): give label.style=completion, or another model"
        ) from reason

    def _generate(self, job: Job) -> Answer:
        payload = job.payload
        if job.kind == "chat":
            text = self._as_text(payload["messages"])
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


class _DigitHead(nn.Module):
    """[..., d_model] -> [..., 10] by some rows of a head, in float32."""

    def __init__(self, head: Any, rows: list[int]) -> None:
        super().__init__()
        self._weight = head.weight[rows].float()
        bias = getattr(head, "bias", None)
        self._bias = None if bias is None else bias[rows].float()

    def forward(self, hidden: Tensor) -> Tensor:
        logits = einsum(hidden.float(), self._weight, "... d_model, digit d_model -> ... digit")
        return logits if self._bias is None else logits + self._bias
