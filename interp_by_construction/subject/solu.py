"""SoLU: an activation function that leads to fewer polysemantic neurons (Elhage et al. 2022,
https://transformer-circuits.pub/2022/solu/index.html)."""

from __future__ import annotations

from torch import Tensor, nn

NAME = "solu"
"""Value of the config's `activation_function`; plain transformers refuses such a checkpoint."""


class Solu(nn.Module):
    """LayerNorm(x * softmax(x)) over the neurons, the last axis.

    As in every other subject, a neuron is what the output projection reads, so it is an output of
    the LayerNorm. It depends on the input rows of all neurons.
    """

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """x: pre-activations [..., d_mlp]; the same shape back."""
        return self.norm(x * x.softmax(dim=-1))
