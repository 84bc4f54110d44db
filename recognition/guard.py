"""What happens when a step's numbers are not finite: the step is skipped, or the run stops and says where.

Every rank decides from what is alike on all of them (the losses of the global batch, the summed gradient), so none is
left waiting for the others.
"""

from collections.abc import Callable

import torch
from torch import nn

from recognition.outcome import Losses, NotFiniteError
from utils import parallel

SHOWN = 8  # samples named in a message


class Guard:
    """Checks steps, undoes what a bad one left in the networks' running statistics, counts.

    Args:
        modules: networks whose buffers a forward pass updates.
        where: sample number -> its name in messages.
        action: "skip" or "stop".
        limit: so many skipped steps in a row stop the run.
        say: prints a line (on rank 0).

    Raises:
        ValueError: another action.
    """

    def __init__(
        self,
        modules: list[nn.Module],
        where: Callable[[int], str],
        action: str = "skip",
        limit: int = 20,
        say: Callable[[str], None] = print,
    ):
        if action not in ("skip", "stop"):
            raise ValueError(f"nonfinite={action!r}: expected 'skip' or 'stop'")
        buffers = [buffer for module in modules for buffer in module.buffers()]
        kinds = {buffer.dtype for buffer in buffers}
        # a GPU copies a list of one dtype at once
        self.buffers = [[buffer for buffer in buffers if buffer.dtype == kind] for kind in kinds]
        self.copies = [[buffer.clone() for buffer in alike] for alike in self.buffers]
        self.where, self.action, self.limit, self.say = where, action, limit, say
        self.skipped, self.in_a_row = 0, 0

    def state_dict(self) -> dict[str, int]:
        """The counters."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Count on."""
        self.skipped, self.in_a_row = state["skipped"], state["in_a_row"]

    @torch.no_grad()
    def remember(self) -> None:
        """Before a step's forward pass."""
        for copies, buffers in zip(self.copies, self.buffers, strict=True):
            torch._foreach_copy_(copies, buffers)

    def check(self, parts: list[Losses], features: list[torch.Tensor], grad_norm: torch.Tensor) -> None:
        """After the backward pass of a step.

        Args:
            parts: the losses of its micro-batches.
            features: their features (p, V, D) with retained gradients.
            grad_norm: of the backbone's summed gradient.

        Raises:
            NotFiniteError: a loss or a gradient is nan or infinite, on every rank; it knows this rank's pairs.
        """
        losses = torch.stack([part.total.detach() for part in parts])
        if bool((losses.isfinite().all() & grad_norm.isfinite()).item()):
            self.in_a_row = 0
            return
        bad = ~torch.cat([own(part.per_pair) for part in parts]).isfinite()
        if not losses.isfinite().all():
            raise NotFiniteError("the loss", bad)
        grads = [h.grad for h in features if h.grad is not None]
        raise NotFiniteError("the gradient", torch.cat([~grad.isfinite().flatten(1).all(1) for grad in grads]))

    @torch.no_grad()
    def skip(self, step: int, trouble: NotFiniteError, index: list[torch.Tensor], expected: bool = False) -> None:
        """Undo and count a step that is not taken.

        Args:
            step: its number.
            trouble: what was found, in the last of the micro-batches or in all of them.
            index: the sample numbers (p,) of this rank in each micro-batch.
            expected: a loss scale that is too high, as it has to become now and then to be found; never a reason to
                stop at once, and told only from the second skipped step in a row on.

        Raises:
            ValueError: the configured action or the limit says so.
        """
        for copies, buffers in zip(self.copies, self.buffers, strict=True):
            torch._foreach_copy_(buffers, copies)
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        numbers = torch.cat(index)[-len(trouble.is_bad) :]
        samples: list[int] = sum(parallel.objects(numbers[trouble.is_bad.cpu()].tolist()), [])
        message = f"{trouble} at step {step}, {self._name(samples)}"
        if self.action == "stop" and not expected:
            raise ValueError(f"{message}: lower lr, train without fp16, or set nonfinite='skip'")
        if self.in_a_row >= self.limit:
            raise ValueError(f"{message}: the last of {self.in_a_row} skipped steps in a row; lower lr")
        if not expected or self.in_a_row > 1:
            self.say(f"note: {message}: step skipped ({self.skipped} so far)")

    def _name(self, samples: list[int]) -> str:
        if not samples:
            return "in no single sample"
        named = ", ".join(f"{i} ({self.where(i)})" for i in samples[:SHOWN])
        return f"in sample {named}" + (f" and {len(samples) - SHOWN} more" if len(samples) > SHOWN else "")


def own(x_P: torch.Tensor) -> torch.Tensor:
    """This rank's part of what all ranks hold of the global batch."""
    start, stop = parallel.own_share(len(x_P))
    return x_P[start:stop]
