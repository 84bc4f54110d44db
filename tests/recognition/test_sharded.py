import math

import pytest
import torch

from recognition.sharded import negatives_logsumexp, softmax_loss


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_loss_is_exact_at_both_ends(dtype):
    """-log(e^t / (e^t + e^l)): neither overflow for a hopeless sample nor cancellation for an easy one."""
    target = torch.tensor([-90.0, 0.0, 40.0, 64.0, 3.0], dtype=dtype, requires_grad=True)
    lse = torch.tensor([64.0, 0.0, 0.0, -64.0, -math.inf], dtype=dtype, requires_grad=True)
    loss = softmax_loss(target, lse)
    expected = torch.tensor([154.0, math.log(2), math.exp(-40), math.exp(-128), 0.0], dtype=dtype)
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-6, atol=0)
    loss.sum().backward()
    torch.testing.assert_close(target.grad[:2], torch.tensor([-1.0, -0.5], dtype=dtype))
    assert target.grad.isfinite().all() and lse.grad.isfinite().all()
    assert lse.grad[4] == 0


def test_gradients_of_the_logsumexp_are_those_of_its_formula():
    torch.manual_seed(0)
    u = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    w = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    exclude = torch.tensor([0, 2, 2]), torch.tensor([1, 0, 4])
    assert torch.autograd.gradcheck(lambda u, w: negatives_logsumexp(u, w, 7.0, exclude), (u, w))


def test_large_scales_do_not_overflow():
    u = torch.nn.functional.normalize(torch.randn(4, 8))
    lse = negatives_logsumexp(u, u, 1000.0, (torch.tensor([], dtype=torch.int64),) * 2)
    torch.testing.assert_close(lse, torch.full((4,), 1000.0), rtol=1e-5, atol=1e-3)
