"""Trains the adapter of the embedded labeler on its three tasks at once: label, simulate, detect.

    python tools/tune_labeler/train_adapter.py --parsed parsed.jsonl.gz --wordnet DICT \\
        --out adapter.safetensors

1. `supervision` says of every token of the texts which of thousands of labels hold.
2. `tasks` draws examples: a text behind a label with the digits of its tokens and an answer to
   whether the label fits; evidence about a node that does what a label says, with the label behind
   it.
3. Adapters beside the linear maps of the upper blocks are trained on the cross-entropy of digits
   (among the ten) and of the label's tokens.

Weights and optimizer are written every `--every` steps: a call that was stopped goes on. With
`--minutes` it stops by itself. What is held out is measured at the end (`measure_adapter.py`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from supervision import HELD_OUT_BOOKS, Supervision, build, text_arguments, with_lists
from table import Table
from tasks import MARKED, N_LISTS, Examples, Rated, Written
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lexical_supervision import WordNet
from low_rank import LowRank, attach, set_weights, weights_of
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from interp_by_construction.llm.digits import Digits, resolve_digits
from interp_by_construction.llm.embedded import resolve_model

POOL = 8
"""Batches are cut from so many together, sorted by length, so that little is padded."""


class Labelled(NamedTuple):
    """The supervision, and what of it may be trained on."""

    data: Supervision
    tokens: NDArray[np.int64]
    columns: NDArray[np.int64]

    @classmethod
    def of(cls, args: argparse.Namespace) -> Labelled:
        table = Table.load(args.parsed, args.texts)
        data = with_lists(build(table, WordNet(args.wordnet), args.seed), N_LISTS, args.seed)
        return cls.split(data)

    @classmethod
    def split(cls, data: Supervision) -> Labelled:
        trained = np.array([book not in HELD_OUT_BOOKS for book in data.books])
        return cls(data, np.flatnonzero(trained[data.text_of]), np.flatnonzero(~data.held_out))


class Adapted(NamedTuple):
    """The labeler with adapters."""

    model: nn.Module
    """Gives hidden states."""
    words: Tensor
    """Output embeddings, [token, d]."""
    digits: Digits
    adapters: dict[str, LowRank]
    tokenizer: Any

    @classmethod
    def load(cls, args: argparse.Namespace) -> Adapted:
        path = resolve_model(args.labeler)
        tokenizer = AutoTokenizer.from_pretrained(path)
        whole = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).to(args.device)
        adapters = attach(whole.base_model, args.rank, args.dropout, args.first)
        if args.adapter is not None:
            set_weights(adapters, load_file(args.adapter))
        for adapter in adapters.values():
            adapter.to(args.device)
        words = whole.get_output_embeddings().weight.detach()
        digits = resolve_digits(tokenizer, args.labeler)
        return cls(whole.base_model, words, digits, adapters, tokenizer)

    def states(self, prompts: list[list[int]]) -> Tensor:
        """[prompt, pos, d]; what stands behind a prompt is padding."""
        longest = max(map(len, prompts))
        ids = torch.zeros(len(prompts), longest, dtype=torch.long, device=self.words.device)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.tensor(prompt)
        states: Tensor = self.model(input_ids=ids, use_cache=False).last_hidden_state
        return states

    def digit_logits(self, batch: list[Rated]) -> Tensor:
        """Of all known positions of some prompts, [position, digit]."""
        states = self.states([each.ids for each in batch])
        rows = [i for i, each in enumerate(batch) for _ in each.at]
        at = [position for each in batch for position in each.at]
        return states[rows, at].float() @ self.words[list(self.digits.ids)].T

    def word_logits(self, batch: list[Written]) -> tuple[Tensor, Tensor]:
        """Of the tokens of the answers, [token, vocabulary], and the tokens."""
        states = self.states([each.ids for each in batch])
        places = [
            (i, position, each.ids[position + 1])
            for i, each in enumerate(batch)
            for position in range(each.n_prompt - 1, len(each.ids) - 1)
        ]
        rows, at, wanted = (list(values) for values in zip(*places, strict=True))
        target = torch.tensor(wanted, device=self.words.device)
        return states[rows, at].float() @ self.words.T, target


def pools(draw: Any, size: int) -> Any:
    """Batches of similar lengths, in random order."""
    while True:
        many = sorted((draw() for _ in range(POOL * size)), key=lambda each: len(each.ids))
        batches = [many[i : i + size] for i in range(0, len(many), size)]
        for i in np.random.permutation(len(batches)):
            yield batches[i]


def train(own: Adapted, examples: Examples, args: argparse.Namespace) -> dict[str, Any]:
    """Trains the adapters in place; returns the last record."""
    trained = [p for p in own.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, args.lr, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.lr, total_steps=args.steps, pct_start=0.06, div_factor=10
    )
    step, record = restored(args, trained, optimizer, schedule), {}
    np.random.seed(args.seed + step)
    examples.rng = np.random.default_rng([args.seed, step])
    rated, written = pools(examples.rated, args.rated), pools(examples.written, args.written)
    start, sums = time.monotonic(), np.zeros(5)
    own.model.train()
    while step < args.steps and time.monotonic() - start < 60 * args.minutes:
        optimizer.zero_grad()
        batch = next(rated)
        known = torch.tensor([digit for each in batch for digit in each.digits])
        kind = torch.tensor([kind for each in batch for kind in each.kinds])
        entropy = nn.functional.cross_entropy(
            own.digit_logits(batch), known.to(own.words.device), reduction="none"
        )
        parts = [
            entropy[kind == i].mean() if (kind == i).any() else entropy.sum() * 0 for i in range(3)
        ]
        (parts[0] + args.detect * (parts[1] + parts[2])).backward()
        logits, target = own.word_logits(next(written))
        label = nn.functional.cross_entropy(logits, target)
        (args.label * label).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        step += 1
        sums += np.array([*(part.item() for part in parts), label.item(), 1.0])
        if step % args.every == 0 or step == args.steps:
            names = ("simulate", "detect", "marked", "label")
            means = (sums[:4] / sums[4]).round(4).tolist()
            seconds = round(time.monotonic() - start)
            record = {"step": step, "seconds": seconds} | dict(zip(names, means, strict=True))
            sums[:] = 0
            sys.stdout.write(json.dumps(record) + "\n")
            sys.stdout.flush()
            keep(args, step, trained, optimizer, schedule)
    keep(args, step, trained, optimizer, schedule)
    return {**record, "step": step}


def state_file(args: argparse.Namespace) -> Path:
    """Where an unfinished training is kept; other settings have another file."""
    told = {
        k: str(v) for k, v in vars(args).items() if k not in ("out", "work", "minutes", "every")
    }
    key = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]
    return Path(args.work) / f"adapter-{key}.pt"


def keep(
    args: argparse.Namespace, step: int, trained: list[nn.Parameter], optimizer: Any, schedule: Any
) -> None:
    file = state_file(args)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    state = {
        "step": step,
        "trained": [p.detach() for p in trained],
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
    }
    torch.save(state, partial)
    partial.rename(file)


def restored(
    args: argparse.Namespace, trained: list[nn.Parameter], optimizer: Any, schedule: Any
) -> int:
    """Number of the step to go on from."""
    file = state_file(args)
    if not file.is_file():
        return 0
    state = torch.load(file, weights_only=True, map_location=args.device)
    for own, kept in zip(trained, state["trained"], strict=True):
        own.data.copy_(kept)
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return int(state["step"])


def main() -> None:
    args = arguments()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    labelled = Labelled.of(args)
    own = Adapted.load(args)
    examples = Examples(
        labelled.data,
        labelled.tokens,
        own.tokenizer,
        own.digits,
        labelled.columns,
        args.seed,
        # Without detection nobody learns from marks.
        MARKED if args.detect else 0.0,
    )
    record = train(own, examples, args)
    half = {name: value.astype(np.float16) for name, value in weights_of(own.adapters).items()}
    told = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
    save_file(half, args.out, metadata={"record": json.dumps(record), "settings": json.dumps(told)})


def labeler_arguments(parser: argparse.ArgumentParser) -> None:
    """Which labeler, and the shape and the first weights of its adapter."""
    add = parser.add_argument
    add("--labeler", default="smollm2")
    add("--device", default="cpu")
    add("--rank", type=int, default=16)
    add("--first", type=int, default=8, help="the first block that is adapted")
    add("--dropout", type=float, default=0.0)
    add("--adapter", type=Path, help="begin with one that `train_adapter.py` wrote")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=2)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    text_arguments(parser)
    labeler_arguments(parser)
    add("--out", type=Path, required=True)
    add("--work", type=Path, default=Path("head-work"), help="unfinished training is kept here")
    add("--minutes", type=float, default=110.0, help="stop after so many; call again to go on")
    add("--steps", type=int, default=400)
    add("--every", type=int, default=20)
    add("--rated", type=int, default=24, help="texts behind labels in a step")
    add("--written", type=int, default=8, help="nodes to be labelled in a step")
    add("--lr", type=float, default=1e-3)
    add("--label", type=float, default=0.15, help="weight of labels beside simulation")
    add("--detect", type=float, default=0.1, help="weight of detection beside simulation")
    return parser.parse_args()


if __name__ == "__main__":
    main()
