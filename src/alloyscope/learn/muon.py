"""The optimiser Muon for the kernels of convolutions, together with AdamW for all other parameters."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

LONGER = 20.0  # ratio of a kernel's learning rate to that of the other parameters
MOMENTUM = 0.95
ROUNDS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)  # of the iteration by Jordan et al.: singular values end between 0.7 and 1.2


class Muon(torch.optim.AdamW):
    """Steps of a kernel are its Nesterov momentum made orthogonal (K. Jordan et al., Muon, 2024).

    A step then changes all directions of a kernel's matrix alike, not only those with the largest gradients. A kernel
    of shape (out, in, y, x) counts as a matrix with `out` rows; torch.optim.Muon takes matrices only. One optimiser
    holds both kinds of parameters, so that one schedule and one state serve them.

    Args:
        kernels: Weights with at least two axes; a step changes the singular values of one by about LONGER · lr.
        others: Parameters that AdamW takes.
        lr: Learning rate of the other parameters.
        weight_decay: Weight decay of the other parameters.
    """

    def __init__(
        self,
        kernels: Sequence[torch.nn.Parameter],
        others: Sequence[torch.nn.Parameter],
        lr: float,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__([{"params": list(others)}], lr=lr, weight_decay=weight_decay)
        self.add_param_group({"params": list(kernels), "lr": LONGER * lr, "orthogonal": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:  # before AdamW's step, because the closure sets the gradients of all groups to 0
            with torch.enable_grad():
                loss = closure()
        adam, muon = self.param_groups
        self.param_groups = [adam]
        try:
            super().step()
        finally:
            self.param_groups = [adam, muon]
        for kernel in muon["params"]:
            if kernel.grad is not None:
                self._turn(kernel, muon["lr"])
        return loss

    def _turn(self, kernel: torch.nn.Parameter, lr: float) -> None:
        state = self.state[kernel]
        if not state:  # AdamW expects `step` in every state that it loads
            state |= {"momentum": torch.zeros_like(kernel), "step": torch.tensor(0.0)}
        momentum = state["momentum"]
        momentum.mul_(MOMENTUM).add_(kernel.grad)
        update = orthogonal((kernel.grad + MOMENTUM * momentum).flatten(1))
        longer = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
        kernel.add_(update.reshape(kernel.shape), alpha=-lr * longer)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Bring the singular values of a matrix near to 1 by a Newton–Schulz iteration; the singular vectors stay.

    Args:
        matrix: Shape (rows, columns), float32.

    Returns:
        A matrix of the same shape, whose singular values lie between 0.6 and 1.3, but for those that were smaller than
        a hundredth of the Frobenius norm.
    """
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    found = matrix.T if tall else matrix
    found = found / (found.norm() + 1e-7)
    for _ in range(ROUNDS):
        gram = found @ found.T
        found = a * found + (b * gram + c * gram @ gram) @ found
    turned: torch.Tensor = found.T if tall else found
    return turned
