"""Models that saw a token before every text in training see it before every text here, and nothing
is measured on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_subjects import LENGTH, random_model, tokens
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModelForCausalLM

from interp_by_construction.config import SPLITS, CollectConfig, DataConfig, LabelerConfig
from interp_by_construction.corpus import build_corpus
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.corpus.tokenize import END_OF_TEXT, NO_DOCUMENT, train_tokenizer
from interp_by_construction.errors import LabelerError
from interp_by_construction.labelling.evidence import gather_evidence
from interp_by_construction.llm.backend import Sampling
from interp_by_construction.llm.beginning import beginning
from interp_by_construction.llm.client import Labeler, make_labeler
from interp_by_construction.llm.digits import probe_prompts, resolve_digits
from interp_by_construction.simulators.encoder import Encoder
from interp_by_construction.simulators.prompt import PromptBuilder
from interp_by_construction.subject.hooks import activations, capture, mlp_flow, others_at_mean
from interp_by_construction.subject.interventions import mean_output

TEXTS = [f"The river and the word apple, in text {i} of many." for i in range(300)]


def tokenizer_with(bos: str | None, added: bool) -> Any:
    """bos: its beginning-of-sequence token; added: whether it puts it before a text."""
    tokenizer = train_tokenizer(TEXTS, 300)
    tokenizer.bos_token = None
    if bos is not None:
        tokenizer.add_special_tokens({"bos_token": bos})
    if added:
        template = TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)]
        )
        tokenizer.backend_tokenizer.post_processor = template
    return tokenizer


@pytest.mark.parametrize(
    ("bos", "added", "expected"),
    [
        (None, False, None),
        ("<bos>", False, None),
        ("<bos>", True, "<bos>"),
        (END_OF_TEXT, True, END_OF_TEXT),
    ],
    ids=["GPT-NeoX", "GPT-2", "Gemma", "OPT"],
)
def test_the_token_is_that_which_the_tokenizer_itself_puts_first(
    bos: str | None, added: bool, expected: str | None
) -> None:
    found = beginning(tokenizer_with(bos, added))
    assert tokenizer_with(bos, added).convert_ids_to_tokens(found) == (
        [expected] if expected else []
    )


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same text for a tokenizer of either kind."""
    folder = tmp_path_factory.mktemp("corpora")
    (folder / "text.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in TEXTS))
    equal = {split: 1 / len(SPLITS) for split in SPLITS}
    path = str(folder / "text.jsonl")
    made = {}
    for name, added in (("plain", False), ("begun", True)):
        size = 17 if added else 16
        data = DataConfig(kind="text", path=path, fractions=equal, block_size=size)
        made[name] = folder / name
        build_corpus(data, tokenizer_with("<bos>", added), made[name])
    return made


def test_each_block_begins_with_it_and_holds_the_same_text_as_without(
    corpora: dict[str, Path],
) -> None:
    begun, plain = (Passage.of_split(corpora[name], "label") for name in ("begun", "plain"))
    assert begun.source.begin is not None and (begun.ids[:, 0] == begun.source.begin).all()
    assert (begun.documents[:, 0] == NO_DOCUMENT).all() and not begun.is_text[:, 0].any()
    assert not begun.held_out.any()
    for name in ("ids", "documents", "is_text"):
        assert np.array_equal(getattr(begun, name)[:, 1:], getattr(plain, name))
    assert [row[1:] for row in begun.tokens] == plain.tokens
    assert {row[0] for row in begun.tokens} == {""}
    starts = begun.windows(8).starts
    assert len(starts) and (starts % begun.length > 0).all()
    assert begun.around(0, 1, 8).start == 1


def test_evidence_is_that_of_the_text_however_active_a_node_is_before_it(
    corpora: dict[str, Path],
) -> None:
    def read(
        passage: Passage, nodes: NDArray[np.int64] | None, description: str
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        values = np.sin(passage.ids[..., None] * np.array([1.0, 2.0, 3.0])).astype(np.float32)
        values[:, : passage.n_begin] = 1e6
        yield slice(0, len(passage)), values if nodes is None else values[..., nodes]

    found = [
        gather_evidence(
            read, Passage.of_split(corpora[name], "label"), 0, CollectConfig(), {1: 1, 2: -1}, 0
        )
        for name in ("begun", "plain")
    ]
    assert found[0].nodes == found[1].nodes and found[0].n_tokens == found[1].n_tokens
    assert torch.equal(found[0].mean, found[1].mean)


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "opt"])
def test_means_and_flows_leave_out_what_a_block_begins_with(name: str) -> None:
    model, ids = random_model(name), tokens()
    flow, whole = mlp_flow(model, 1, ids, first=1), mlp_flow(model, 1, ids)
    for part, every in zip(flow, whole, strict=True):
        expected = every.reshape(len(ids), LENGTH, -1)[:, 1:].flatten(0, 1)
        assert torch.equal(part, expected)
    mean = mean_output(model, 1, [ids], first=1)
    torch.testing.assert_close(mean, flow.written.mean(0), atol=1e-5, rtol=1e-4)
    text = torch.ones_like(ids, dtype=torch.bool)
    text[:, 0] = False
    with torch.no_grad():
        real = activations(model, 1, ids)
        with others_at_mean(model, 1, [3], text), capture(model, 1) as captured:
            model(ids, use_cache=False)
    held = captured.of(ids)
    assert torch.equal(held[:, 0], real[:, 0]) and torch.equal(held[..., 3], real[..., 3])
    expected = real[text].mean(0)
    expected = torch.where(torch.arange(len(expected)) == 3, held[text], expected)
    torch.testing.assert_close(held[text], expected)


def llm(folder: Path, kind: str, tokenizer: Any, **fields: Any) -> Path:
    """A random language model with large logits, and its tokenizer."""
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
    }
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **sizes, **fields)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        model.get_input_embeddings().weight.normal_(0.0, 3.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = tokenizer_with("<bos>", True)
    tokenizer.chat_template = (
        "{{ bos_token }}{% if messages[0].role == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    caps = {"final_logit_softcapping": 3.0, "attn_logit_softcapping": 50.0}
    return llm(tmp_path_factory.mktemp("gemma"), "gemma2", tokenizer, **caps)


def opened(folder: Path, calls: Path) -> Labeler:
    cfg = LabelerConfig(
        backend="transformers", model=str(folder), dtype="float32", max_model_len=512
    )
    return make_labeler(cfg, calls / "calls.sqlite", calls)


def test_digit_logits_are_the_models_own_behind_its_cap(gemma: Path, tmp_path: Path) -> None:
    """The check of the digits runs too: it compares with the model's probabilities."""
    with opened(gemma, tmp_path) as labeler:
        ids = [*beginning(labeler.tokenizer), *labeler.tokenizer.encode("an apple")[1:]]
        (found,) = labeler.digit_logits([ids])
        model = AutoModelForCausalLM.from_pretrained(gemma, dtype=torch.float32).eval()
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
        expected = logits[:, list(labeler.digits.ids)].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert 1.5 < np.abs(found).max() <= 3.0


def test_a_template_without_a_system_role_and_a_model_without_a_template(
    gemma: Path, tmp_path: Path
) -> None:
    asked = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "What?"}]
    merged = [{"role": "user", "content": "Be short.\n\nWhat?"}]
    with opened(gemma, tmp_path) as labeler:
        assert labeler.chat([asked], Sampling(3, 0.0)) == labeler.chat([merged], Sampling(3, 0.0))
        labeler.tokenizer.chat_template = None
        with pytest.raises(LabelerError, match=r"no chat template.*label.style=completion"):
            labeler.chat([asked], Sampling(4, 0.0))


def test_every_prompt_of_token_ids_begins_with_it(gemma: Path) -> None:
    tokenizer = tokenizer_with("<bos>", True)
    digits = resolve_digits(tokenizer, "gemma")
    begin = beginning(tokenizer)
    prompts = [PromptBuilder(tokenizer, digits).shots, *probe_prompts(tokenizer, digits)]
    assert all(ids[:1] == begin and begin[0] not in ids[1:] for ids in prompts)


def test_an_encoder_reads_it_and_gives_no_row_for_it(gemma: Path) -> None:
    encoder = Encoder.load(str(gemma), (1,), "cpu")
    ids = encoder.tokenizer.encode("The river", return_tensors="pt")
    with torch.no_grad():
        states = encoder.model(ids, output_hidden_states=True).hidden_states[1][0]
    (found,) = encoder.states(["The river"])
    assert len(found) == ids.shape[1] - 1
    np.testing.assert_allclose(found, states[1:].float().numpy(), atol=1e-5)
