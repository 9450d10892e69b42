"""Measures a labeler, with or without an adapter, on held-out concepts in a held-out book.

    python tools/tune_labeler/measure_adapter.py --parsed parsed.jsonl.gz --wordnet DICT \\
        [--adapter adapter.safetensors | --plain] --out measured.json

Simulation and detection: r of the expected digit with the truth on texts of which half have
members, behind the true label and behind that of another concept; AUC of the answer to whether the
label fits. Labels: how often the labeler, shown evidence of a node that does what a label says,
gives a label of the same concept (a phrasing of it, or a rule whose truth has r above 0.8 with it).
`--plain` measures the model as it is, by the prompts with solved examples; detection by the short
question all the same.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from supervision import HELD_OUT_BOOKS, text_arguments
from tasks import FITS, UPPER, Examples
from train_adapter import Adapted, Labelled, labeler_arguments

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from evidence import make_node

from interp_by_construction.labelling.answers import read_answer
from interp_by_construction.labelling.prompts import words_prompt
from interp_by_construction.labelling.rated import rated_prompt
from interp_by_construction.scoring.truth import roc_auc
from interp_by_construction.simulators.exact import expected_digit
from interp_by_construction.simulators.prompt import SHOTS, PromptBuilder
from interp_by_construction.truth.language import is_rule, truth_on

N_TEXTS = 12
"""Behind each label, half of them with members."""
N_NEW = 16
N_PASSAGES = 150
SAME = 0.8


@torch.no_grad()
def simulated(own: Adapted, prompts: list[tuple[list[int], list[int]]]) -> list[NDArray[Any]]:
    """Logits of the ten digits behind some positions of each prompt, [position, digit] each."""
    order = np.argsort([len(ids) for ids, _ in prompts])
    found: list[Any] = [None] * len(prompts)
    for first in range(0, len(order), 24):
        rows = order[first : first + 24].tolist()
        states = own.states([prompts[i][0] for i in rows])
        for row, i in enumerate(rows):
            logits = states[row, prompts[i][1]].float() @ own.words[list(own.digits.ids)].T
            found[i] = logits.numpy()
    return found


def simulate(
    own: Adapted, examples: Examples, concepts: list[int], plain: bool
) -> dict[int, dict[str, float]]:
    """Concept -> r with its own and with another label, and AUC of detection."""
    data, rng = examples.data, examples.rng
    builder = PromptBuilder(own.tokenizer, own.digits, SHOTS if plain else ())
    others = rng.permutation(concepts).tolist()
    prompts, truths, keys = [], [], []
    for concept, other in zip(concepts, others, strict=True):
        for i in range(N_TEXTS):
            pool = examples.members[concept] if i % 2 else examples.tokens
            start, stop = examples.places.window(int(rng.choice(pool)), rng, UPPER)
            truth = data.member(np.arange(start, stop), np.array([concept]))[:, 0]
            excerpt = builder.excerpt(examples.pieces(start, stop))
            for name, shown in (("true", concept), ("false", other)):
                label = examples.phrasing(shown, first=True)
                ids = [*builder.shots, *builder.heading(label)]
                at = (excerpt.reads + len(ids)).tolist()
                ids += excerpt.ids.tolist() + builder.encode(FITS)
                prompts.append((ids, [*at, len(ids) - 1]))
                truths.append(truth)
                keys.append((concept, name))
    found = defaultdict(list)
    for key, truth, logits in zip(keys, truths, simulated(own, prompts), strict=True):
        found[key].append((truth, expected_digit(logits[:-1]), logits[-1, 1] - logits[-1, 0]))
    scores: dict[int, dict[str, float]] = {}
    for (concept, name), rows in found.items():
        truth, values = (np.concatenate([row[i] for row in rows]) for i in range(2))
        known = truth <= 1
        r = np.corrcoef(truth[known], values[known])[0, 1]
        fits = np.array([(row[0] == 1).any() for row in rows])
        asked = np.array([row[2] for row in rows])
        auc = roc_auc(asked, fits) if 0 < fits.sum() < len(fits) else np.nan
        scores.setdefault(concept, {}).update({f"r {name}": r, f"auc {name}": auc})
    return scores


@torch.no_grad()
def written(own: Adapted, prompts: list[str], n: int, seed: int) -> list[list[str]]:
    """`n` answers to each prompt, the first one greedy."""
    builder = PromptBuilder(own.tokenizer, own.digits, ())
    torch.manual_seed(seed)
    answers: list[list[str]] = []
    for prompt in prompts:
        ids = builder.encode(prompt)
        found = own.model(input_ids=torch.tensor([ids]), use_cache=True)
        cache = found.past_key_values
        cache.batch_repeat_interleave(n)
        states = found.last_hidden_state[:, -1].repeat(n, 1)
        rows: list[list[int]] = [[] for _ in range(n)]
        for _ in range(N_NEW):
            logits = states.float() @ own.words.T
            token = torch.multinomial((logits / 0.8).softmax(-1), 1)[:, 0]
            token[0] = logits[0].argmax()
            for row, t in zip(rows, token.tolist(), strict=True):
                row.append(t)
            if all("\n" in own.tokenizer.decode(row) for row in rows):
                break
            step = own.model(input_ids=token[:, None], past_key_values=cache, use_cache=True)
            cache, states = step.past_key_values, step.last_hidden_state[:, -1]
        answers.append([own.tokenizer.decode(row).split("\n")[0] for row in rows])
    return answers


def recovered(
    examples: Examples, concepts: list[int], answers: list[list[str]]
) -> dict[int, list[bool]]:
    """Concept -> whether each answer names it."""
    data = examples.data
    texts = examples.texts[:: max(1, len(examples.texts) // N_PASSAGES)]
    rows = np.concatenate([np.arange(*examples.places.start[t : t + 2]) for t in texts])
    pieces = [data.texts[t] for t in texts]
    known: dict[str, list[int]] = defaultdict(list)
    for i, each in enumerate(data.concepts):
        for phrasing in each.phrasings:
            known[" ".join(phrasing.lower().split())].append(i)
    said = {label for own in answers for answer in own if (label := read_answer(answer).label)}
    readable = sorted(label for label in said if is_rule(label))
    rules = truth_on(pieces, readable) > 0 if readable else np.zeros((len(rows), 0), bool)
    found = {}
    for concept, own in zip(concepts, answers, strict=True):
        truth = data.member(rows, np.array([concept]))[:, 0]
        found[concept] = []
        for answer in own:
            label = read_answer(answer).label
            same = False
            if label is not None:
                name = " ".join(label.lower().split())
                columns = np.array(known.get(name, []), dtype=np.int64)
                same = concept in columns
                if not same and len(columns):
                    member = data.member(rows, columns)
                    same = any(_r(truth, member[:, i]) > SAME for i in range(len(columns)))
                if not same and label in readable:
                    rule = rules[:, readable.index(label)].astype(np.uint8)
                    same = _r(truth, rule) > SAME
            found[concept].append(bool(same))
    return found


def _r(truth: NDArray[Any], other: NDArray[Any]) -> float:
    use = (truth <= 1) & (other <= 1)
    if not 0 < truth[use].sum() < use.sum() or not 0 < other[use].sum() < use.sum():
        return 0.0
    return float(np.corrcoef(truth[use], other[use])[0, 1])


def summary(scores: dict[int, dict[str, float]], kinds: dict[int, str]) -> dict[str, Any]:
    """Means by kind and over all."""
    groups: dict[str, list[dict[str, float]]] = defaultdict(list)
    for concept, found in scores.items():
        for kind in (kinds[concept], "all"):
            groups[kind].append(found)
    return {
        kind: {"n": len(rows)}
        | {name: round(float(np.nanmean([row[name] for row in rows])), 3) for name in rows[0]}
        for kind, rows in sorted(groups.items())
    }


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    labelled = Labelled.of(args)
    own = Adapted.load(args)
    own.model.eval()
    data = labelled.data
    unseen = np.array([book in HELD_OUT_BOOKS for book in data.books])
    tokens = np.flatnonzero(unseen[data.text_of])
    columns = np.flatnonzero(data.held_out)
    examples = Examples(data, tokens, own.tokenizer, own.digits, columns, 7)
    by_kind: dict[str, list[int]] = defaultdict(list)
    for group in examples.groups.values():
        for c in group.tolist():
            by_kind[data.concepts[c].kind].append(c)
    concepts = [
        c
        for own_kind in by_kind.values()
        for c in examples.rng.permutation(own_kind)[: args.per_kind].tolist()
    ]
    kinds = {c: data.concepts[c].kind for c in concepts}
    result: dict[str, Any] = {}
    if args.simulate:
        result["simulate"] = summary(simulate(own, examples, concepts, args.plain), kinds)
    if args.label:
        nodes = [
            make_node(
                data, examples.places, examples.members[c], examples.near[c], tokens, examples.rng
            )
            for c in concepts
        ]
        prompts = [
            f"{words_prompt(node, 10, 5)}" if args.plain else rated_prompt(node) for node in nodes
        ]
        answers = written(own, prompts, args.answers, 0)
        found = recovered(examples, concepts, answers)
        result["label"] = summary(
            {c: {"first": float(own[0]), "any": float(any(own))} for c, own in found.items()},
            kinds,
        )
        result["examples"] = [
            [data.concepts[c].phrasings[0], *own[:3]]
            for c, own in list(zip(concepts, answers, strict=True))[:: max(1, len(concepts) // 25)]
        ]
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    text_arguments(parser)
    labeler_arguments(parser)
    add("--out", type=Path, required=True, help="JSON file of what is measured")
    add("--plain", action="store_true", help="the prompts with solved examples")
    add("--per-kind", type=int, default=8, help="concepts of each kind")
    add("--answers", type=int, default=8, help="labels that are asked for")
    add("--simulate", action=argparse.BooleanOptionalAction, default=True)
    add("--label", action=argparse.BooleanOptionalAction, default=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
