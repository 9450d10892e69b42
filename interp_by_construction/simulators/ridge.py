"""Dense simulator: ridge regression from an encoder's hidden states to exact simulations, one column per label.

Closed form in the dual (tokens < features): alpha = (K + lambda I)^-1 Y with K = X X^T, weights = X^T alpha. The regularisation is
chosen per label by cross-validation over excerpts of the simulate split, the only text it ever sees.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.scoring import columnwise_correlation

LAMBDAS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Candidates, in units of the mean diagonal of K."""


class Ridge(NamedTuple):
    """A fitted simulator: simulated = (features - mean) / scale @ weights + bias."""

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

    def predict(self, features: NDArray) -> NDArray[np.float32]:
        """features: [token, feature] -> simulated activations [token, label]."""
        x = (features.astype(np.float32) - self.mean) / self.scale
        return np.einsum("tf,fl->tl", x, self.weights, optimize=True) + self.bias


def fit_ridge(features: NDArray, targets: NDArray, excerpts: NDArray[np.int64], n_folds: int = 5) -> Ridge:
    """features: [token, feature]; targets: exact simulations [token, label]; excerpts: excerpt of each token, [token].

    Folds are made of whole excerpts, so that neighbouring tokens never stand on both sides.
    """
    x = features.astype(np.float64)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale < 1e-6] = 1.0
    x = (x - mean) / scale
    y = targets.astype(np.float64)
    bias = y.mean(axis=0)
    kernel = np.einsum("af,bf->ab", x, x, optimize=True)
    kernel_scale = float(np.trace(kernel) / len(kernel))
    folds = np.unique(excerpts, return_inverse=True)[1] % min(n_folds, len(np.unique(excerpts)))
    held_out = np.stack([_cross_predict(kernel, y - bias, folds, lam * kernel_scale) for lam in LAMBDAS])
    scores = np.stack([columnwise_correlation(y, prediction) for prediction in held_out])
    best = np.argmax(np.nan_to_num(scores, nan=-1.0), axis=0)
    alpha = np.stack(
        [_solve(kernel, y[:, label] - bias[label], LAMBDAS[best[label]] * kernel_scale) for label in range(y.shape[1])], axis=1
    )
    return Ridge(
        mean=mean.astype(np.float32),
        scale=scale.astype(np.float32),
        weights=np.einsum("tf,tl->fl", x, alpha, optimize=True).astype(np.float32),
        bias=bias.astype(np.float32),
        lambdas=np.asarray(LAMBDAS)[best],
        fidelity=scores[best, np.arange(y.shape[1])],
    )


def _solve(kernel: NDArray, y: NDArray, penalty: float) -> NDArray:
    return np.linalg.solve(kernel + penalty * np.eye(len(kernel)), y)


def _cross_predict(kernel: NDArray, y: NDArray, folds: NDArray, penalty: float) -> NDArray:
    """Predictions for each token from the folds it is not in, [token, label]."""
    predicted = np.zeros_like(y)
    for fold in np.unique(folds):
        inside, outside = folds == fold, folds != fold
        alpha = _solve(kernel[np.ix_(outside, outside)], y[outside], penalty)
        predicted[inside] = np.einsum("ab,bl->al", kernel[np.ix_(inside, outside)], alpha, optimize=True)
    return predicted
