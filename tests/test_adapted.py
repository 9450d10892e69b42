"""A labeler's adapter: merging, what it is known by, and the prompts of a labeler that has one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_server import FakeServer
from safetensors.numpy import load_file, save_file
from tiny_subjects import random_model, tokens
from transformers import AutoModelForCausalLM

from interp_by_construction.config import LabelerConfig
from interp_by_construction.config.labels import AskConfig
from interp_by_construction.errors import LabelerError
from interp_by_construction.labelling.ask import Asker
from interp_by_construction.labelling.rated import rated_prompt, unfit, views
from interp_by_construction.labelling.revision import CounterExamples
from interp_by_construction.llm.adapted import labeler_source, plain_source
from interp_by_construction.llm.client import make_labeler
from interp_by_construction.llm.embedded import load_tokenizer
from interp_by_construction.llm.identity import labeler_identity
from interp_by_construction.scoring.llm_judge import Question, ask
from interp_by_construction.simulators.exact import plan
from interp_by_construction.subject.nodes import Excerpt, Node

MAPS = ("layers.0.mlp.up_proj", "layers.1.self_attn.q_proj")


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IBC_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "checkpoint"
    random_model("llama").save_pretrained(path)
    return path


def adapter(path: Path, model: torch.nn.Module, seed: int = 0) -> Path:
    rng, found = np.random.default_rng(seed), {}
    for name in MAPS:
        out, into = model.get_submodule(name).weight.shape
        found[f"{name}.up"] = rng.normal(size=(out, 3)).astype(np.float16)
        found[f"{name}.down"] = rng.normal(size=(3, into)).astype(np.float16)
    save_file(found, path)
    return path


def test_a_merged_checkpoint_computes_what_the_adapter_adds(
    checkpoint: Path, tmp_path: Path
) -> None:
    whole = AutoModelForCausalLM.from_pretrained(checkpoint)
    file = adapter(tmp_path / "adapter.safetensors", whole.base_model)
    cfg = LabelerConfig(backend="transformers", model=str(checkpoint), adapter=str(file))
    merged = AutoModelForCausalLM.from_pretrained(labeler_source(cfg))
    plain = whole(tokens()).logits
    found, hooks = load_file(file), []
    for name in MAPS:
        up, down = (torch.from_numpy(found[f"{name}.{part}"]).float() for part in ("up", "down"))
        module = whole.base_model.get_submodule(name)
        hooks.append(
            module.register_forward_hook(
                lambda _, given, out, up=up, down=down: out + given[0] @ down.T @ up.T
            )
        )
    expected = whole(tokens()).logits
    assert torch.allclose(merged(tokens()).logits, expected, atol=1e-4)
    assert not torch.allclose(plain, expected, atol=1e-2)


def test_a_labeler_is_known_by_its_adapter(checkpoint: Path, tmp_path: Path) -> None:
    model = random_model("llama").base_model
    files = [adapter(tmp_path / f"{seed}.safetensors", model, seed) for seed in (0, 1)]
    plain = LabelerConfig(backend="transformers", model=str(checkpoint))
    every = [plain, *(replace(plain, adapter=str(file)) for file in files)]
    assert len({labeler_identity(cfg) for cfg in every}) == 3
    assert len({labeler_source(cfg) for cfg in every}) == 3
    assert labeler_source(plain) == str(checkpoint)


def test_an_endpoint_has_merged_its_own(checkpoint: Path, tmp_path: Path) -> None:
    file = adapter(tmp_path / "a.safetensors", random_model("llama").base_model)
    cfg = LabelerConfig(
        backend="endpoint", url="http://127.0.0.1:1", model=str(checkpoint), adapter=str(file)
    )
    assert labeler_source(cfg) == str(checkpoint)


def test_an_adapter_that_does_not_fit_is_refused_by_name(checkpoint: Path, tmp_path: Path) -> None:
    cfg = LabelerConfig(backend="transformers", model=str(checkpoint))
    with pytest.raises(LabelerError, match=r"labeler.adapter=.*missing.*no such file"):
        labeler_source(replace(cfg, adapter=str(tmp_path / "missing")))
    (garbage := tmp_path / "garbage").write_bytes(b"no safetensors")
    with pytest.raises(LabelerError, match=r"labeler.adapter=.*cannot be read"):
        labeler_source(replace(cfg, adapter=str(garbage)))
    for name, shape in (("layers.0.mlp.up_proj", 7), ("layers.9.mlp.up_proj", 16)):
        wrong = {f"{name}.up": np.zeros((5, 2), "f2"), f"{name}.down": np.zeros((2, shape), "f2")}
        save_file(wrong, tmp_path / "wrong")
        with pytest.raises(LabelerError, match=rf"labeler.adapter=.*{name}.*adapter=null"):
            labeler_source(replace(cfg, adapter=str(tmp_path / "wrong")))
    with pytest.raises(LabelerError, match=r"labeler.adapter=.*no directory with one"):
        labeler_source(replace(cfg, model="some/model", adapter=str(garbage)))
    assert not list((tmp_path / "cache").glob("adapted-*"))


def excerpt(text: str, value: float) -> Excerpt:
    pieces = [f" {word}" for word in text.split()]
    peak = next(i for i, piece in enumerate(pieces) if "*" in piece)
    values = [0.0] * len(pieces)
    values[peak] = value
    return Excerpt([piece.replace("*", "") for piece in pieces], values, peak, 0)


def node() -> Node:
    top = [
        excerpt(f"a b c d e f g *{word} h i j", 10.0 - i)
        for i, word in enumerate(["cat", "dog", "cat", "cow", "hen", "dog", "pig", "ewe"])
    ]
    return Node(
        1,
        5,
        1,
        0.1,
        1.0,
        top,
        [excerpt("the *ox", 3.0), excerpt("the *ant", 5.0), excerpt("the *air", 0.0)],
        [excerpt("hot *dog stand", 0.5)],
        [],
        [],
        [excerpt("some *thing else", 0.0)],
    )


def test_a_rated_prompt_shows_words_excerpts_and_how_strong_they_are() -> None:
    prompt = rated_prompt(node(), 0, [("fur", 0.5), ("ice", -1.0)], ["pets"])
    assert prompt.splitlines() == [
        "Words: cat, dog, cow, hen, pig, ewe",
        "9 a b c d e f g [cat] h i",
        "8 a b c d e f g [dog] h i",
        "6 a b c d e f g [cow] h i",
        "5 a b c d e f g [hen] h i",
        "4 a b c d e f g [pig] h i",
        "3 a b c d e f g [ewe] h i",
        "4 the [ant]",
        "3 the [ox]",
        "0 hot [dog] stand",
        "0 some [thing] else",
        "Reads from: fur",
        "Not: pets",
        "Label:",
    ]


def test_views_show_other_excerpts_and_counter_examples_come_first() -> None:
    shown = views(node(), more=[excerpt("the *yak ran", 8.0)])
    assert len(set(shown)) == len(shown) >= 3
    assert all(prompt.splitlines()[1] == "7 the [yak] ran" for prompt in shown)


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("animals", None),
        ("the word 'cat'", None),
        ("the word 'wolf'", "names what it was not shown"),
        ("a b c d e", "copies the prompt"),
        ("the dog's food", None),
    ],
)
def test_an_answer_that_repeats_or_invents_is_none(label: str, reason: str | None) -> None:
    assert unfit(label, rated_prompt(node())) == reason


def test_a_labeler_with_an_adapter_is_asked_by_short_prompts(tmp_path: Path) -> None:
    with FakeServer() as server:
        server.text_of = lambda prompt, seed, temperature: (
            " the word 'wolf'" if prompt.startswith("Words: ") and temperature else " animals"
        )
        # What an endpoint serves is known by the hash of the file alone.
        (file := tmp_path / "adapter").write_bytes(b"an adapter")
        cfg = LabelerConfig(
            backend="endpoint", url=server.url, classify_url=server.url, adapter=str(file)
        )
        with make_labeler(cfg, tmp_path / "calls.sqlite", tmp_path) as labeler:
            assert labeler.tuned
            asker = Asker(labeler, AskConfig(n_candidates=3), {}, 0)
            counter = CounterExamples([excerpt("the *yak ran", 8.0)], [])
            questions = [
                asker.plain(node()),
                asker.contrast(node(), "pets", node()),
                asker.revision(node(), "pets", counter),
            ]
            for question in questions:
                assert all(prompt.endswith("\nLabel:") for prompt in question.prompts)
            assert "Not: pets" in questions[1].prompts[0]
            assert (
                "7 the [yak] ran" in questions[2].prompts[0]
                and "Not: pets" in questions[2].prompts[0]
            )
            answers = asker.ask(questions[:1], "proposal", 3, {})
            assert [answer.text for answer in answers] == ["animals", None, None]
            assert asker.counts().unparsed_answers == {"names what it was not shown": 2}
            asked = {body["prompt"] for path, body in server.requests if "completions" in path}
            assert asked == set(questions[0].prompts[:3])

            packing = plan(labeler, ["fruit"], [["An", " apple"], [" a", " pear"]])
            read = load_tokenizer(plain_source(cfg), cfg.model).decode
            assert [read(prompt.ids) for prompt in packing.prompts()] == [
                "\nLabel: fruit\nText: An apple\n",
                "\nLabel: fruit\nText: a pear\n",
            ]
            labeler.verified = True
            ask(labeler, [Question("detection", "fruit", "An apple")], 8, "judge")
            body = server.requests[-1][1]
            ids = body.get("input", body.get("prompt"))
            assert (
                read(ids if isinstance(ids[0], int) else ids[0])
                == "\nLabel: fruit\nText: An apple\nFits:\n"
            )
