"""A GGUF file of the Llama family as a transformers checkpoint.

The `gguf` reader does it, because transformers' own GGUF loading wants `accelerate`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, LlamaConfig

_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""GGUF tensor name -> transformers module name."""


def convert(source: Path, output: Path) -> None:
    """Writes config, tokenizer and bf16 weights of the GGUF file `source` into `output`; same
    input, same bytes."""
    reader = GGUFReader(source)
    fields: dict[str, Any] = {name: field.contents() for name, field in reader.fields.items()}
    config = LlamaConfig(
        vocab_size=fields["llama.vocab_size"],
        hidden_size=fields["llama.embedding_length"],
        intermediate_size=fields["llama.feed_forward_length"],
        num_hidden_layers=fields["llama.block_count"],
        num_attention_heads=fields["llama.attention.head_count"],
        num_key_value_heads=fields["llama.attention.head_count_kv"],
        max_position_embeddings=fields["llama.context_length"],
        rms_norm_eps=round(fields["llama.attention.layer_norm_rms_epsilon"], 12),
        rope_parameters={"rope_type": "default", "rope_theta": fields["llama.rope.freq_base"]},
        bos_token_id=fields["tokenizer.ggml.bos_token_id"],
        eos_token_id=fields["tokenizer.ggml.eos_token_id"],
        pad_token_id=fields["tokenizer.ggml.padding_token_id"],
        tie_word_embeddings=True,
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    )
    heads = {
        "attn_q": fields["llama.attention.head_count"],
        "attn_k": fields["llama.attention.head_count_kv"],
    }
    state: dict[str, torch.Tensor] = {}
    for tensor in reader.tensors:
        name, part = _rename(tensor.name)
        weight = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy()).float()
        if part in heads:
            weight = _unpermute(weight, heads[part])
        state[name] = weight.to(torch.bfloat16).contiguous()
    save_file(state, output / "model.safetensors", metadata={"format": "pt"})
    tokenizer = AutoTokenizer.from_pretrained(
        source.parent, gguf_file=source.name, trust_remote_code=False
    )
    # The original tokenizer splits digits one by one. transformers' GGUF reader drops that rule.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.save_pretrained(output)
    # Last, because its presence marks a complete checkpoint.
    config.save_pretrained(output)


def _rename(name: str) -> tuple[str, str]:
    """`blk.3.attn_q.weight` -> (`model.layers.3.self_attn.q_proj.weight`, `attn_q`)."""
    block = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
    if block:
        layer, part, kind = block.groups()
        return f"model.layers.{layer}.{_NAMES[part]}.{kind}", part
    part, kind = name.rsplit(".", 1)
    return f"{_NAMES[part]}.{kind}", part


def _unpermute(weight: torch.Tensor, n_heads: int) -> torch.Tensor:
    """Undoes llama.cpp's reordering of rotary pairs: rows are stored (head, d/2, 2) where
    transformers wants (head, 2, d/2)."""
    return rearrange(
        weight, "(head half pair) d_model -> (head pair half) d_model", head=n_heads, pair=2
    )
