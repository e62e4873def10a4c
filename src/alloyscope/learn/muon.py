"""The optimiser Muon for the weights of convolutions, whose steps change all directions of a weight matrix alike.

torch.optim.Muon takes matrices only; here a kernel of shape (out, in, y, x) counts as a matrix of out rows.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch

MOMENTUM = 0.95
ROUNDS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)  # of Jordan's iteration: singular values end between 0.7 and 1.2


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose step is made orthogonal (K. Jordan et al., Muon, 2024; J. Bernstein, 2025).

    Args:
        parameters: Weights with at least two axes; the first one is the outputs.
        lr: Length of a step: the singular values of a weight change by about so much, for a weight with more inputs
            than outputs.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                momentum = state.setdefault("momentum", torch.zeros_like(weight))
                momentum.mul_(MOMENTUM).add_(weight.grad)
                update = orthogonal((weight.grad + MOMENTUM * momentum).flatten(1))
                longer = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                weight.add_(update.reshape(weight.shape), alpha=-group["lr"] * longer)
        return loss


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Bring the singular values of a matrix near to 1 by a Newton–Schulz iteration; the singular vectors stay.

    Args:
        matrix: Shape (rows, columns), float32.

    Returns:
        A matrix of the same shape with singular values between 0.6 and 1.3, but for those that were below a thousandth
        of the largest.
    """
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    found = matrix.T if tall else matrix
    found = found / (found.norm() + 1e-7)
    for _ in range(ROUNDS):
        gram = found @ found.T
        found = a * found + (b * gram + c * gram @ gram) @ found
    return found.T if tall else found
