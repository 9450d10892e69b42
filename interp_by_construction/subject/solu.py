"""SoLU: an activation function made to have fewer polysemantic neurons (Elhage et al. 2022,
https://transformer-circuits.pub/2022/solu/index.html).
"""

from __future__ import annotations

from torch import Tensor, nn

NAME = "solu"
"""Value of the config's `activation_function`; plain transformers knows no such name and refuses
the checkpoint."""


class Solu(nn.Module):
    """LayerNorm(x * softmax(x)) over the neurons, the last axis.

    A neuron is what the output projection reads, as in every other subject, so it stands behind the
    LayerNorm. Softmax and norm both run over the whole layer: a neuron depends on the input rows of
    all others.
    """

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """x: pre-activations [..., d_mlp]; the same shape back."""
        normed: Tensor = self.norm(x * x.softmax(dim=-1))
        return normed
