"""Laws of reading checkpoints of others: whole or refused, savable again, known by content."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_subjects import random_model, tokens
from transformers import AutoModel

from interp_by_construction.config import LabelerConfig, SubjectConfig
from interp_by_construction.corpus.tokenize import save_tokenizer, train_tokenizer
from interp_by_construction.errors import ConfigError, LabelerError, SubjectError
from interp_by_construction.llm import identity
from interp_by_construction.llm.context import check_context, context_of
from interp_by_construction.llm.identity import checkpoint_identity, labeler_identity
from interp_by_construction.llm.pretrained import located, pinned, read_weights
from interp_by_construction.subject.load import (
    load_subject,
    save_subject,
    source_checkpoint,
    source_tokenizer,
    untie,
)

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 269060552\n"
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untied Llama."""
    model, folder = random_model("llama"), tmp_path_factory.mktemp("whole")
    untie(model)
    save_subject(model, folder)
    return folder


def changed_weights(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        file = folder / "model.safetensors"
        save_file(change(load_file(file)), file, metadata={"format": "pt"})

    return apply


def changed_config(**fields: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))

    return apply


def half(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def in_place_of(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return apply


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "of torch.compile": (
        changed_weights(lambda w: {f"_orig_mod.{k}": v for k, v in w.items()}),
        r"weights are missing \(lm_head.weight, .*unknown to this architecture \(_orig_mod",
    ),
    "no head": (
        changed_weights(lambda w: {k: v for k, v in w.items() if k != "lm_head.weight"}),
        r"1 weights are missing \(lm_head.weight\)",
    ),
    "another shape": (
        changed_weights(lambda w: w | {"lm_head.weight": w["lm_head.weight"][:-1].clone()}),
        r"another shape .*lm_head.weight \(47, 16\) instead of \(48, 16\)",
    ),
    "one more": (changed_weights(lambda w: w | {"v_head.weight": torch.zeros(2)}), "v_head.weight"),
    "pointer": (lambda f: bool((f / "model.safetensors").write_bytes(POINTER)), "git lfs pull"),
    "folder": (in_place_of("config.json"), "config.json is a folder"),
    "no number": (changed_config(made_up=float("nan")), "config.json holds a value that JSON"),
    "half a letter": (changed_config(made_up="\ud83d"), "config.json holds a value that JSON"),
    "infinite": (
        changed_weights(lambda w: w | {"lm_head.weight": w["lm_head.weight"] / 0}),
        r"1 weights hold values that are no finite numbers \(lm_head.weight\)",
    ),
    "half": (half, "damaged or downloaded in part"),
    "quantized": (
        changed_config(quantization_config={"quant_method": "gptq", "bits": 4}),
        r"quantized \(gptq\)",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_checkpoint_that_is_not_whole_is_refused_with_the_names(
    name: str, whole: Path, tmp_path: Path
) -> None:
    """transformers alone draws what is missing at random."""
    damage, message = DAMAGES[name]
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    damage(folder)
    with pytest.raises(SubjectError, match=message) as error:
        load_subject(folder)
    assert "subject.path" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda tokenizer, config: (tokenizer | {"decoder": {"type": "None"}}, config),
        lambda tokenizer, config: (tokenizer | {"model": 7}, config),
        lambda tokenizer, config: (tokenizer, config | {"model_max_length": "long"}),
    ],
)
def test_a_tokenizer_that_cannot_read_is_refused(
    damage: Callable[[Any, Any], tuple[Any, Any]], tmp_path: Path
) -> None:
    save_tokenizer(train_tokenizer(["some text"] * 9, 300), tmp_path)
    files = [tmp_path / name for name in ("tokenizer.json", "tokenizer_config.json")]
    assert source_tokenizer(str(tmp_path)) is not None
    for file, values in zip(
        files, damage(*(json.loads(f.read_text()) for f in files)), strict=True
    ):
        file.write_text(json.dumps(values))
    with pytest.raises(SubjectError, match="has no readable tokenizer") as error:
        source_tokenizer(str(tmp_path))
    assert "subject.path" in str(error.value) and "\n" not in str(error.value)


def test_a_tied_head_and_buffers_of_old_versions_are_nothing_missing_or_unknown(
    tmp_path: Path,
) -> None:
    save_subject(random_model("llama"), tmp_path)
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    changed_weights(lambda w: w | {name: torch.zeros(4)})(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    expected = random_model("llama")(tokens()).logits
    assert torch.equal(load_subject(tmp_path)(tokens()).logits, expected)
    assert read_weights(AutoModel, tmp_path, spare=("lm_head",)) is not None


@pytest.mark.parametrize(
    "given",
    [
        {"do_sample": False, "temperature": 0.9, "top_p": 0.6, "eos_token_id": [0, 5]},
        {"do_sample": False, "top_k": 3, "eos_token_id": [0, 5], "pad_token_id": -1},
        {"do_sample": True, "temperature": 0.9, "eos_token_id": [0, 5]},
    ],
)
def test_every_generation_config_that_loads_can_be_saved(
    given: dict[str, Any], whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "a")
    (tmp_path / "a" / "generation_config.json").write_text(json.dumps(given))
    save_subject(load_subject(tmp_path / "a"), tmp_path / "b")
    saved = json.loads((tmp_path / "b" / "generation_config.json").read_text())
    assert saved["eos_token_id"] == [0, 5]
    # What can be saved stays.
    assert ("temperature" in saved) == given["do_sample"]


FILES = (
    "chat_template.jinja",
    "tokenizer_config.json",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "special_tokens_map.json",
    "generation_config.json",
    "config.json",
)


@pytest.mark.parametrize("name", FILES)
def test_every_file_that_decides_how_text_is_read_moves_the_identity(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IBC_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")
    known = {checkpoint_identity(str(folder))}
    for text in ('{"a": 1}', '{"a": 2}'):
        (folder / name).write_text(text)
        known.add(checkpoint_identity(str(folder)))
    assert len(known) == 3
    # How and by whom it was saved decides nothing, nor does any other file.
    last = checkpoint_identity(str(folder))
    (folder / "README.md").write_text("more")
    if name in ("tokenizer_config.json", "generation_config.json", "config.json"):
        (folder / name).write_text('{"a": 2, "transformers_version": "9"}')
    assert checkpoint_identity(str(folder)) == last


def test_a_hub_model_is_known_by_its_commit_whatever_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = {"org/m": "c1", "org/m@main": "c1", "org/m@old": "c0"}

    def commit_of(name: str) -> str:
        if name not in commits:
            raise OSError("no such model\nand more")
        return commits[name]

    monkeypatch.setattr(identity, "commit_of", commit_of)
    cfg = LabelerConfig(model="org/m")
    named = {
        revision: labeler_identity(dataclasses.replace(cfg, revision=revision))
        for revision in (None, "main", "old")
    }
    assert named[None] == named["main"] != named["old"]
    with pytest.raises(LabelerError, match=r"'org/none' cannot be found \(no such model\)"):
        checkpoint_identity("org/none")
    assert located(pinned("org/m", "old")) == {
        "pretrained_model_name_or_path": "org/m",
        "revision": "old",
    }
    subject = SubjectConfig(kind="hf", path="org/m", revision="old")
    assert source_checkpoint(subject) == "org/m@old"
    with pytest.raises(SubjectError, match=r"subject.revision=old: .* is a directory"):
        source_checkpoint(dataclasses.replace(subject, path=str(tmp_path)))
    with pytest.raises(ConfigError, match=r"subject.revision=old"):
        SubjectConfig(kind="tiny", revision="old").check("subject")


@pytest.mark.parametrize(
    "change", [{"max_model_len": 64}, {"max_num_seqs": 2}, {"extra_args": ["--seed=1"]}]
)
def test_what_changes_the_answers_of_a_managed_labeler_is_in_its_identity(
    change: dict[str, Any],
) -> None:
    plain = LabelerConfig()
    assert labeler_identity(dataclasses.replace(plain, **change)) != labeler_identity(plain)


def test_a_labeler_with_fewer_positions_than_asked_for_is_refused_with_both_numbers(
    whole: Path,
) -> None:
    cfg = LabelerConfig(backend="transformers", model=str(whole), max_model_len=65)
    with pytest.raises(LabelerError, match=r"max_model_len=65: .* at most 64 .*max_model_len=64"):
        check_context(cfg)
    check_context(dataclasses.replace(cfg, max_model_len=64))
    check_context(dataclasses.replace(cfg, backend="endpoint"))
    scaled = random_model("llama").config
    scaled.rope_parameters = {"rope_type": "linear", "factor": 4.0}
    assert context_of(scaled) == 256
