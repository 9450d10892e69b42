"""Random models of every family and small block sets, shared by the tests of subject, freeze and
training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

VOCAB, LENGTH = 48, 12
_COMMON = {"vocab_size": VOCAB, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
_LLAMA = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 64,
}
_NEOX = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
_OPT = {
    "hidden_size": 16,
    "ffn_dim": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "word_embed_proj_dim": 8,
    "pad_token_id": 1,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {"n_embd": 16, "n_inner": 24, "n_layer": 3, "n_head": 2, "n_positions": 64}),
    "gpt_neo": (
        "gpt_neo",
        {
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_layers": 3,
            "num_heads": 2,
            "max_position_embeddings": 64,
            "attention_types": [[["global"], 3]],
        },
    ),
    "gpt_neox": ("gpt_neox", _NEOX),
    "gpt_neox_serial": ("gpt_neox", {**_NEOX, "use_parallel_residual": False}),
    "llama": ("llama", {**_LLAMA, "tie_word_embeddings": True}),
    "mistral": ("mistral", _LLAMA),
    "smollm3": ("smollm3", _LLAMA),
    "qwen2": ("qwen2", _LLAMA),
    "qwen3": ("qwen3", _LLAMA),
    "gemma": ("gemma", _LLAMA),
    "gemma2": ("gemma2", _LLAMA),
    "gemma3_text": ("gemma3_text", _LLAMA),
    "opt": ("opt", _OPT),
    "opt_post_norm": ("opt", {**_OPT, "do_layer_norm_before": False}),
}


def random_model(name: str, seed: int = 0) -> PreTrainedModel:
    """Three layers of 24 nodes with random weights, biases and norms included; eval mode,
    float32."""
    kind, fields = FAMILIES[name]
    torch.manual_seed(seed)
    model = (
        AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**_COMMON, **fields}))
        .float()
        .eval()
    )
    with torch.no_grad():
        for parameter in model.parameters():
            # Freshly initialised biases are 0 and small weights hide paths; noise makes every
            # parameter matter.
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def tokens(batch: int = 3, seed: int = 1) -> torch.Tensor:
    return torch.randint(2, VOCAB, (batch, LENGTH), generator=torch.Generator().manual_seed(seed))


class ArrayBlocks:
    """Stands in for an arrow dataset: `dataset[indices]["input_ids"]`."""

    def __init__(self, n_blocks: int = 10, seed: int = 2) -> None:
        self.input_ids = tokens(n_blocks, seed).numpy()

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, indices: list[int]) -> dict[str, np.ndarray]:
        return {
            "input_ids": self.input_ids[indices],
            "document": np.zeros_like(self.input_ids[indices]),
        }
