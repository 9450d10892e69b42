"""Trains a low-rank adapter of a labeler on the very prompts of exact simulation
(`interp_by_construction/simulators/prompt.py`).

    # trains, on a GPU
    python tools/tune_exact.py --wordnet /path/to/dict --out adapter.safetensors
    # writes a checkpoint that `labeler.model` takes
    python tools/tune_exact.py --merge adapter.safetensors --out checkpoint/

The supervision is that of `train_simulator.py`: WordNet's texts, and which of their tokens belong
to thousands of labelled concepts. A prompt holds the rated texts of every simulation prompt and
then some texts behind one label, half of them with members; the ten digit logits behind every token
are trained towards 9 for members and 0 for others. Held-out concepts and texts are those of the
head.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from concept_batches import Concepts, Padded, precision, supervision
from concept_scores import scores
from lexical_words import IGNORE
from low_rank import attach, weights_of
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn
from train_simulator import phrasing_table
from transformers import AutoModelForCausalLM, AutoTokenizer

from interp_by_construction.llm.digits import resolve_digits
from interp_by_construction.llm.embedded import resolve_model
from interp_by_construction.simulators.adapter import merge
from interp_by_construction.simulators.prompt import PromptBuilder

HIGHEST = 9
"""Digit of a member."""
N_DEV_CONCEPTS = 120
N_DEV_TEXTS = 32
"""Held-out texts per concept in the evaluation, half of them with members where there are any."""


class Prompts:
    """Prompts of simulation as token ids: rated texts, then texts that stand behind one label."""

    def __init__(
        self,
        tokenizer: Any,
        texts: list[str],
        lengths: list[int],
        phrasings: list[str],
        device: str,
    ) -> None:
        builder = PromptBuilder(tokenizer, resolve_digits(tokenizer, "labeler"))
        self.shots = builder.shots
        excerpts = [builder.excerpt([text]).ids.tolist() for text in texts]
        # A text whose first word is split otherwise behind a space has other tokens than its
        # supervision.
        self.usable = torch.tensor(
            [len(ids) == n + 1 for ids, n in zip(excerpts, lengths, strict=True)], device=device
        )
        self.texts = excerpts
        self.headings = [builder.heading(" ".join(phrase.split())[:200]) for phrase in phrasings]

    def one(self, phrasing: int, texts: list[int]) -> tuple[list[int], list[int]]:
        """Ids, and the positions of the texts' tokens."""
        ids, reads = list(self.shots), []
        for text in texts:
            ids += self.headings[phrasing]
            reads += range(len(ids), len(ids) + len(self.texts[text]) - 1)
            ids += self.texts[text]
        return ids, reads


def digit_logits(
    model: nn.Module, rows: Tensor, prompts: list[tuple[list[int], list[int]]], device: str
) -> Tensor:
    """Logits of the ten digits at the texts' tokens of all prompts, [token, digit]."""
    padded = Padded([ids for ids, _ in prompts]).to(device)
    ids, _ = padded.batch(torch.arange(len(prompts), device=device))
    states = model(input_ids=ids, use_cache=False).last_hidden_state
    longest = ids.shape[1]
    at = torch.tensor(
        [i * longest + p for i, (_, reads) in enumerate(prompts) for p in reads], device=device
    )
    return states.flatten(0, 1)[at].float() @ rows.T


def expected(logits: Tensor) -> Tensor:
    """Expected digit."""
    return logits.softmax(-1) @ torch.arange(10.0, device=logits.device)


def train(
    model: nn.Module,
    rows: Tensor,
    concepts: Concepts,
    prompts: Prompts,
    args: argparse.Namespace,
    data: Any,
) -> dict[str, Any]:
    """Trains the adapters in place; returns the last record."""
    trained = nn.ParameterList([p for p in model.parameters() if p.requires_grad])
    optimizer = torch.optim.AdamW(trained, lr=args.lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.lr, total_steps=args.steps, pct_start=0.1
    )
    record: dict[str, Any] = {
        "step": 0,
        "held_out_concepts": evaluate(model, rows, concepts, prompts, data, args.device),
    }
    sys.stdout.write(json.dumps(record) + "\n")
    start = time.monotonic()
    for step in range(1, args.steps + 1):
        chosen = concepts.some(concepts.train_concepts, args.batch_prompts)
        half = args.n_texts // 2
        wanted = concepts.texts_with(chosen.repeat_interleave(half)).view(-1, half)
        others = concepts.some(concepts.train_texts, len(chosen) * (args.n_texts - half)).view(
            len(chosen), -1
        )
        texts = torch.cat([wanted, others], dim=1)
        texts = texts.gather(1, torch.rand(texts.shape, device=texts.device).argsort(1))
        phrasings = concepts.phrasings(chosen)
        batch = [prompts.one(int(p), own) for p, own in zip(phrasings, texts.tolist(), strict=True)]
        member = torch.cat(
            [
                concepts.member(concepts.rows(own), c[None])[:, 0]
                for own, c in zip(texts, chosen, strict=True)
            ]
        )
        with precision(args.device):
            logits = digit_logits(model, rows, batch, args.device)
        known = (member != IGNORE).float()
        entropy = nn.functional.cross_entropy(
            logits.float(), HIGHEST * (member == 1).long(), reduction="none"
        )
        loss = (entropy * known).sum() / known.sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        if step % args.every == 0 or step == args.steps:
            record = {
                "step": step,
                "loss": round(loss.item(), 4),
                "seconds": round(time.monotonic() - start),
            }
            record["held_out_concepts"] = evaluate(
                model, rows, concepts, prompts, data, args.device
            )
            sys.stdout.write(json.dumps(record) + "\n")
            sys.stdout.flush()
    return record


@torch.no_grad()
def evaluate(
    model: nn.Module, rows: Tensor, concepts: Concepts, prompts: Prompts, data: Any, device: str
) -> dict[str, Any]:
    """Scores of held-out concepts by their first phrasing on held-out texts, two texts a prompt."""
    model.eval()
    generator = torch.Generator().manual_seed(0)
    usable = concepts.dev_texts[prompts.usable[concepts.dev_texts]]
    simulated, member, every = [], [], []
    for c in concepts.dev_concepts[
        torch.randperm(len(concepts.dev_concepts), generator=generator).to(device)
    ][:N_DEV_CONCEPTS]:
        has = concepts.present[usable, c].nonzero()[:, 0].cpu()
        first = has[torch.randperm(len(has), generator=generator)[: N_DEV_TEXTS // 2]]
        more = torch.randint(len(usable), (N_DEV_TEXTS - len(first),), generator=generator)
        texts = usable[torch.cat([first, more]).to(device)]
        pairs = texts[torch.randperm(len(texts), generator=generator).to(device)].view(-1, 2)
        batch = [prompts.one(int(concepts.phrasing[c, 0]), own) for own in pairs.tolist()]
        with precision(device):
            simulated.append(expected(digit_logits(model, rows, batch, device).float()))
        member.append(concepts.member(concepts.rows(pairs.flatten()), c[None])[:, 0])
        every.append(data.concepts[int(c)])
    model.train()
    found = [
        scores(s[:, None], m[:, None], [concept])
        for s, m, concept in zip(simulated, member, every, strict=True)
    ]
    found = [each for each in found if each["n"]]
    return {name: float(np.mean([each[name] for each in found])) for name in ("r", "auc")} | {
        "n": len(found)
    }


def main() -> None:
    args = arguments()
    if args.merge is not None:
        merged(args.labeler, args.merge, args.out)
        return
    torch.manual_seed(args.seed)
    path = resolve_model(args.labeler)
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16).to(args.device)
    data = supervision(args, args.labeler, tokenizer)
    flat, table, n_phrasings = phrasing_table(data.concepts)
    concepts = Concepts.load(data, table, n_phrasings, args.device, args.seed)
    prompts = Prompts(tokenizer, data.texts, concepts.lengths.tolist(), flat, args.device)
    concepts.train_texts = concepts.train_texts[prompts.usable[concepts.train_texts]]
    rows = (
        model.get_output_embeddings()
        .weight[list(resolve_digits(tokenizer, args.labeler).ids)]
        .float()
        .detach()
    )
    adapters = attach(model.base_model, args.rank, args.dropout)
    for adapter in adapters.values():
        adapter.to(args.device)
    record = train(model.base_model, rows, concepts, prompts, args, data)
    half = {name: value.astype(np.float16) for name, value in weights_of(adapters).items()}
    save_file(half, args.out, metadata={"record": json.dumps(record)})


def merged(labeler: str, adapter: Path, out: Path) -> None:
    """Writes a checkpoint of the labeler with the adapter in its weights."""
    path = Path(resolve_model(labeler))
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)
    merge(model.base_model, load_file(adapter))
    model.save_pretrained(out)
    for file in path.iterdir():
        if not (out / file.name).exists():
            shutil.copy(file, out)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--wordnet", type=Path, help="folder with data.noun, index.noun, cntlist.rev, ..."
    )
    parser.add_argument(
        "--merge", type=Path, help="write the labeler with this adapter instead of training one"
    )
    parser.add_argument(
        "--text",
        type=Path,
        nargs="*",
        default=[],
        help="more plain text files to take sentences from",
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--work", type=Path, default=Path("head-work"), help="the supervision is kept here"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--labeler", default="smollm2")
    parser.add_argument("--tokens", type=int, default=890_000)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--dropout", type=float, default=0.05)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--every", type=int, default=500)
    parser.add_argument("--batch-prompts", type=int, default=32)
    parser.add_argument("--n-texts", type=int, default=4, help="texts behind one label in a prompt")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
