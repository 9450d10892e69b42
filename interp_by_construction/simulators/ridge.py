"""Dense simulator: ridge regression from an encoder's hidden states to exact simulations, one
column per label.

1. One kernel per encoder layer, K_l = X_l X_l^T of standardised features; kernels of several layers
   add up, so that trying a set of layers costs no pass over the features.
2. For every set of layers and every regularisation, predict each excerpt of the simulate split from
   the others (whole excerpts, so that neighbouring tokens never stand on both sides).
3. The layers are chosen for the run, by the mean r over labels; the regularisation for each label.
4. Closed form in the dual (tokens < features): alpha = (K + lambda I)^-1 Y, weights = X^T alpha.

It is fitted on the simulate split alone. For the dual form see Saunders et al. (1998).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve

from interp_by_construction.corpus.passage import Passage
from interp_by_construction.llm.client import Labeler
from interp_by_construction.llm.embedded import resolve_model
from interp_by_construction.llm.identity import checkpoint_identity
from interp_by_construction.simulators.base import Fitted, Models, Simulation, Texts
from interp_by_construction.simulators.encoder import Encoder
from interp_by_construction.simulators.exact import ExactSimulator, simulate_raw
from interp_by_construction.simulators.prompt import OTHER_SHOTS, SHOTS
from interp_by_construction.stats.correlation import columnwise_correlation
from interp_by_construction.stats.undefined import mean_defined

LAMBDAS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Candidates, in units of the mean diagonal of K."""


class RidgeSimulator(ExactSimulator):
    """The exact simulator, distilled for the targets of each label. Scores are by the exact one."""

    name = "ridge"
    any_label = False
    is_exact = False
    encoded_parts = ("fit", "score", "align")
    exact_parts = ("fit", "score")
    calibration_part = "fit"
    settings = ("contrast", "reliability_tokens", "encoder_layers")
    encoder_settings = ("encoder_layers",)
    models = ("encoder",)

    @property
    def identity(self) -> dict[str, str]:
        return {"encoder": checkpoint_identity(self.cfg.encoder)}

    @property
    def target_name(self) -> str:
        return self.name

    def load_encoder(self, device: str) -> Encoder:
        return Encoder.load(resolve_model(self.cfg.encoder), self.cfg.encoder_layers, device)

    def fit(self, labels: Sequence[str], texts: Texts, models: Models) -> Fitted:
        labeler, passage = models.labeler(), texts.passage("fit")
        raw = simulate_raw(labeler, labels, passage.tokens, "simulate fit")
        target, rows = raw.contrasted(self.cfg.contrast), texts.rows("fit")
        assert rows is not None
        use = passage.is_text.reshape(-1)
        n_excerpts, length = passage.shape
        layers = self.cfg.encoder_layers
        excerpts = np.repeat(np.arange(n_excerpts), length)
        ridge = fit_ridge(rows[use], target[use], excerpts[use], n_layers=len(layers))
        metrics = {
            "fidelity_cross_validated": mean_defined(ridge.fidelity),
            "encoder_layers": [layers[layer] for layer in ridge.layers],
            "lambda_median": float(np.median(ridge.lambdas)) if len(ridge.lambdas) else None,
        }
        saved = {"fit": raw.values, "fit_reference": raw.reference}
        return Fitted(ridge, saved, metrics | self._reliability(labeler, labels, target, passage))

    def _reliability(
        self, labeler: Labeler, labels: Sequence[str], target: NDArray[Any], fit: Passage
    ) -> dict[str, Any]:
        """r of the exact simulation (`target`, [token, label]) with itself, on the first excerpts
        of the simulate split: under other few-shot examples, and under the same ones with the
        excerpts in reverse order (`reliability_order`).

        What stands before an excerpt in its prompt changes the answer. No feature of the excerpt
        can predict that, so the second r is the best that a regression can reach. A labeler with an
        adapter reads nothing before it, so neither is measured.
        """
        length = fit.is_text.shape[1]
        n = min(len(fit.tokens), self.cfg.reliability_tokens // length)
        n = 0 if labeler.tuned else n
        metrics: dict[str, Any] = {"n_reliability_tokens": int(fit.is_text[:n].sum())}
        use = fit.is_text[:n].reshape(-1)
        again = (("reliability", OTHER_SHOTS, 1), ("reliability_order", SHOTS, -1))
        for name, shots, step in again:
            if n == 0:
                metrics |= {name: None, f"n_{name}_undefined": None}
                continue
            texts = fit.tokens[:n][::step]
            raw = simulate_raw(labeler, labels, texts, name.replace("_", " "), shots)
            values = raw.contrasted(self.cfg.contrast).reshape(n, length, -1)[::step]
            r = columnwise_correlation(
                target[: n * length][use], values.reshape(n * length, -1)[use]
            )
            metrics |= {name: mean_defined(r), f"n_{name}_undefined": int(np.isnan(r).sum())}
        return metrics


@dataclass(frozen=True)
class Ridge(Simulation):
    """A fitted simulation: simulated = (features of the chosen layers - mean) / scale @ weights +
    bias."""

    columns: NDArray[np.int64]
    """Which columns of the encoder's features are read: those of the chosen layers, [feature]."""
    layers: tuple[int, ...]
    """The chosen layers, as indices into the encoder's."""
    mean: NDArray[np.float32]
    """[feature]"""
    scale: NDArray[np.float32]
    """[feature]"""
    weights: NDArray[np.float32]
    """[feature, label]"""
    bias: NDArray[np.float32]
    """[label]"""
    lambdas: NDArray[np.float64]
    """Chosen regularisation, [label]."""
    fidelity: NDArray[np.float64]
    """Cross-validated r with the exact simulation, [label]; NaN where that is constant."""

    def of_encoded(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """rows: [token, all features of the encoder] -> [token, label]."""
        x = (rows[:, self.columns].astype(np.float32) - self.mean) / self.scale
        return np.einsum("tf,fl->tl", x, self.weights, optimize=True) + self.bias


def fit_ridge(
    features: NDArray[Any],
    targets: NDArray[Any],
    excerpts: NDArray[np.int64],
    n_layers: int = 1,
    n_folds: int = 5,
) -> Ridge:
    """features: [token, n_layers * width], layers side by side; targets: exact simulations [token,
    label]; excerpts: excerpt of each token, [token]."""
    x = features.astype(np.float64)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale < 1e-6] = 1.0
    x = (x - mean) / scale
    y = targets.astype(np.float64)
    bias = y.mean(axis=0)
    width = x.shape[1] // n_layers
    blocks = [x[:, layer * width : (layer + 1) * width] for layer in range(n_layers)]
    kernels = [np.einsum("af,bf->ab", block, block, optimize=True) for block in blocks]
    folds = np.unique(excerpts, return_inverse=True)[1] % min(n_folds, len(np.unique(excerpts)))
    best: tuple[float, tuple[int, ...], NDArray[Any]] | None = None
    for layers in layer_sets(n_layers):
        kernel = _normalised(kernels, layers)
        scores = np.stack(
            [columnwise_correlation(y, p) for p in _cross_predictions(kernel, y - bias, folds)]
        )
        mean_r = float(np.nan_to_num(scores, nan=-1.0).max(axis=0).mean()) if y.shape[1] else 0.0
        # Fewer layers come first and win a tie.
        if best is None or mean_r > best[0]:
            best = (mean_r, layers, scores)
    assert best is not None
    _, layers, scores = best
    chosen = np.argmax(np.nan_to_num(scores, nan=-1.0), axis=0)
    kernel = _normalised(kernels, layers)
    alpha = np.empty_like(y)
    for index in np.unique(chosen):
        labels = chosen == index
        alpha[:, labels] = _solve(kernel, y[:, labels] - bias[labels], LAMBDAS[index])
    columns = np.concatenate([np.arange(layer * width, (layer + 1) * width) for layer in layers])
    weights = np.einsum("tf,tl->fl", x[:, columns], alpha, optimize=True)
    # The kernel was divided by its mean diagonal; so are the weights.
    weights = weights / _mean_diagonal(kernels, layers)
    return Ridge(
        columns=columns,
        layers=layers,
        mean=mean[columns].astype(np.float32),
        scale=scale[columns].astype(np.float32),
        weights=weights.astype(np.float32),
        bias=bias.astype(np.float32),
        lambdas=np.asarray(LAMBDAS)[chosen],
        fidelity=scores[chosen, np.arange(y.shape[1])],
    )


def layer_sets(n_layers: int) -> list[tuple[int, ...]]:
    """The sets of layers that are tried, smaller ones first: single layers, pairs, all."""
    layers = range(n_layers)
    return list(dict.fromkeys([*combinations(layers, 1), *combinations(layers, 2), tuple(layers)]))


def _mean_diagonal(kernels: Sequence[NDArray[Any]], layers: Sequence[int]) -> float:
    return float(sum(np.trace(kernels[layer]) for layer in layers) / len(kernels[0])) or 1.0


def _normalised(kernels: Sequence[NDArray[Any]], layers: Sequence[int]) -> NDArray[Any]:
    """The kernel of some layers side by side, with mean diagonal 1."""
    summed = np.sum([kernels[layer] for layer in layers], axis=0)
    return summed / _mean_diagonal(kernels, layers)


def _solve(kernel: NDArray[Any], y: NDArray[Any], penalty: float) -> NDArray[Any]:
    return solve(kernel + penalty * np.eye(len(kernel)), y, assume_a="pos")


def _cross_predictions(
    kernel: NDArray[Any], y: NDArray[Any], folds: NDArray[Any]
) -> Iterator[NDArray[Any]]:
    """For each of `LAMBDAS`, predictions of each token from the folds it is not in, [token,
    label]."""
    for penalty in LAMBDAS:
        predicted = np.zeros_like(y)
        for fold in np.unique(folds):
            inside, outside = folds == fold, folds != fold
            alpha = _solve(kernel[np.ix_(outside, outside)], y[outside], penalty)
            predicted[inside] = np.einsum(
                "ab,bl->al", kernel[np.ix_(inside, outside)], alpha, optimize=True
            )
        yield predicted
