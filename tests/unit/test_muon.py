"""Steps of Muon against singular values and vectors by NumPy, and AdamW's steps beside it against torch's."""

import numpy as np
import pytest
import torch
from torch import nn

from alloyscope.learn.muon import LONGER, Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 30), (30, 8), (12, 12)])
def test_singular_values_come_near_to_one_and_singular_vectors_stay(shape):
    rng = np.random.default_rng(3)
    left, _, right = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    values = np.geomspace(1, 20, min(shape))
    found = orthogonal(torch.from_numpy(((left * values) @ right).astype(np.float32))).double().numpy()
    inner = left.T @ found @ right.T
    assert np.diag(inner).min() > 0.6
    assert np.diag(inner).max() < 1.3
    assert abs(inner - np.diag(np.diag(inner))).max() < 1e-3


def test_the_first_step_turns_a_kernel_by_its_own_learning_rate():
    kernel = nn.Parameter(torch.zeros(6, 5, 3, 3))
    optimizer = Muon([kernel], [], lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    kernel.grad = torch.randn(kernel.shape, generator=generator)
    optimizer.step()
    values = np.linalg.svd(kernel.detach().flatten(1).numpy(), compute_uv=False)
    assert values == pytest.approx(LONGER * 1e-3, rel=0.4)
    assert float((kernel.detach() * kernel.grad).sum()) < 0  # downhill


def test_momentum_goes_on_without_a_gradient_and_is_in_the_state():
    kernel = nn.Parameter(torch.zeros(4, 4, 1, 1))
    optimizer = Muon([kernel], [], lr=1e-2)
    kernel.grad = torch.eye(4)[:, :, None, None].clone()
    optimizer.step()
    once = kernel.detach().clone()
    kernel.grad = torch.zeros_like(kernel)
    optimizer.step()
    assert torch.allclose(kernel, 2 * once, atol=1e-6)  # a momentum of any length gives a step of the same length
    again = Muon([nn.Parameter(kernel.detach().clone())], [], lr=1e-2)
    again.load_state_dict(optimizer.state_dict())
    assert torch.equal(next(iter(again.state.values()))["momentum"], optimizer.state[kernel]["momentum"])


def test_other_parameters_step_as_adamw_does():
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 7)) for _ in range(2))
    kernel = nn.Parameter(torch.ones(2, 2, 3, 3))
    optimizers = (Muon([kernel], [ours], 1e-2, weight_decay=0.1), torch.optim.AdamW([theirs], 1e-2, weight_decay=0.1))
    for number in range(3):
        ours.grad, theirs.grad = (torch.linspace(0, number, 7) for _ in range(2))
        kernel.grad = torch.ones_like(kernel)
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(ours, theirs)
    assert not torch.equal(kernel, torch.ones_like(kernel))


def test_a_closure_sees_all_parameters():
    kernel, other = nn.Parameter(torch.ones(2, 2, 3, 3)), nn.Parameter(torch.ones(3))
    optimizer = Muon([kernel], [other], 1e-2)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = kernel.square().sum() + other.square().sum()
        loss.backward()
        return loss.detach()

    for _ in range(2):
        before = kernel.detach().clone()
        assert float(optimizer.step(closure)) > 0
        assert torch.allclose(kernel.grad, 2 * before)  # of this step alone
