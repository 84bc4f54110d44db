"""SGD and AdamW on some rows of a matrix at a time, so that no gradient of its full size ever exists.

Shapes: `C` rows of the matrix, `r` of them in an update, `D` dimension.
"""

import torch
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd


class RowOptimizer:
    """What torch.optim.SGD or AdamW would do, for the rows it is given; the other rows and their slots stay as they
    are.

    Rows that Partial FC did not sample therefore neither decay nor drift with their momentum, as in the method's first
    version; `arcface_torch`'s current one moves them with a dense zero gradient.

    Args:
        kind: "sgd" or "adamw".
        weight: (C, D), updated in place.
        momentum: of SGD; 0 keeps no slot.
        weight_decay: added to the gradient by SGD, decoupled in AdamW.

    Raises:
        ValueError: another kind.
    """

    def __init__(self, kind: str, weight: torch.Tensor, momentum: float = 0.9, weight_decay: float = 0.0):
        names = {"sgd": ("momentum_buffer",) if momentum else (), "adamw": ("exp_avg", "exp_avg_sq")}
        if kind not in names:
            raise ValueError(f"optimizer={kind!r}: expected 'sgd' or 'adamw'")
        self.kind, self.weight, self.momentum, self.weight_decay = kind, weight, momentum, weight_decay
        self.slots = {name: torch.zeros_like(weight) for name in names[kind]}
        self.step = torch.zeros(())  # of AdamW's bias correction

    def begin(self) -> None:
        """Before the updates of one optimisation step."""
        self.step += 1

    @torch.no_grad()
    def update(self, rows: slice | torch.Tensor, g_rD: torch.Tensor, lr: float) -> None:
        """Move `rows` (a slice, or int64 numbers without repeats) by their gradient."""
        tensors = [self.weight, *self.slots.values()]
        if isinstance(rows, slice):
            self._rule(*(tensor[rows] for tensor in tensors), g_rD=g_rD, lr=lr)
            return
        parts = [tensor.index_select(0, rows) for tensor in tensors]
        self._rule(*parts, g_rD=g_rD, lr=lr)
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.index_copy_(0, rows, part)

    def _rule(self, weight: torch.Tensor, *slots: torch.Tensor, g_rD: torch.Tensor, lr: float) -> None:
        if self.kind == "sgd":
            sgd(
                [weight], [g_rD], [*slots] or [None], fused=True, lr=lr, momentum=self.momentum,
                weight_decay=self.weight_decay, dampening=0.0, nesterov=False, maximize=False,
            )  # fmt: skip
            return
        first, second = slots
        adamw(
            [weight], [g_rD], [first], [second], [], [(self.step - 1).to(weight.device)], fused=True, lr=lr,
            beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=self.weight_decay, amsgrad=False, maximize=False,
        )  # fmt: skip
