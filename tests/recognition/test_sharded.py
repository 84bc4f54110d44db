import math

import pytest
import torch

from recognition.sharded import Columns, Scratch, Trace, negatives_logsumexp, softmax_loss


class Dense(Columns):
    """All of W, in blocks of `width`; `exclude` (B, K) marks what is no negative."""

    def __init__(self, W, exclude, width):
        self.W, self.exclude = W, exclude
        self.count, self.scratch = len(W), Scratch()
        self.blocks = [slice(k, k + width) for k in range(0, len(W), width)]

    def vectors(self, k):
        return self.W[self.blocks[k]]

    def hide(self, logits, k):
        logits.masked_fill_(self.exclude[:, self.blocks[k]], -math.inf)


def dense_logsumexp(u, W, s, exclude):
    return (s * u @ torch.nn.functional.normalize(W).T).masked_fill(exclude, -math.inf).logsumexp(1)


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


@pytest.mark.parametrize("kept", [0, 1, 2, 100])
@pytest.mark.parametrize("width", [1, 2, 5])
def test_value_and_both_gradients_equal_the_dense_formula(width, kept):
    """Rows without a negative among the first blocks, in the last, or anywhere; some blocks kept, others recomputed."""
    torch.manual_seed(0)
    u = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    W = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    exclude = torch.zeros(4, 5, dtype=torch.bool)
    exclude[0, :3], exclude[1, 4], exclude[2] = True, True, True
    weights = torch.randn(4, dtype=torch.float64)
    expected = dense_logsumexp(u, W, 7.0, exclude)
    assert expected[2] == -math.inf
    rows = [0, 1, 3]
    grads = torch.autograd.grad((expected[rows] * weights[rows]).sum(), (u, W))

    trace, columns = Trace(budget=kept * 4 * width * 8), Dense(W.detach(), exclude, width)
    got = negatives_logsumexp(u, columns, 7.0, trace=trace)
    torch.testing.assert_close(got, expected)
    grad_u = torch.autograd.grad((got[rows] * weights[rows]).sum(), u)[0]
    assert len(trace.kept) == min(kept, len(columns.blocks))
    torch.testing.assert_close(grad_u, grads[0])
    torch.testing.assert_close(torch.cat([trace.gradient(k).clone() for k in range(len(columns.blocks))]), grads[1])


def test_values_far_apart_neither_overflow_nor_vanish():
    """The running maximum rises and falls by hundreds from block to block."""
    u = torch.tensor([[1.0, 0.0]])
    W = torch.tensor([[-1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]])
    lse = negatives_logsumexp(u, Dense(W, torch.zeros(1, 4, dtype=torch.bool), 1), 1000.0)
    torch.testing.assert_close(lse, torch.tensor([1000.0]))
    only_far = torch.tensor([[False, True, True, False]])
    lse = negatives_logsumexp(u, Dense(W, only_far, 1), 1000.0)
    torch.testing.assert_close(lse, torch.tensor([-1000.0 + math.log(2)]))
