"""Where the negatives of the contrast come from: the batch, a momentum queue, the proxy-updated real-time queue (Sec.
III-C, Table II).

Shapes: `P` pairs of the global batch, `V` views, `M` rows to enqueue, `D` dimension, `K` rows held here, `c` of them in
    a block.
"""

import torch

from recognition.head import ClassShard
from recognition.pool import Pool
from recognition.queue import Queue
from utils import parallel

NAMES = ("none", "batch", "momentum", "proxy")


class BatchPool(Pool):
    """The features of the current global batch, each rank holding its own pairs."""

    def enqueue(self, u_PVD: torch.Tensor, y_P: torch.Tensor) -> None:
        start, stop = parallel.own_share(len(y_P))
        self._rows = len(y_P) * u_PVD.shape[1]
        self.key_KD = u_PVD[start:stop].detach().flatten(0, 1)
        self.y_K = y_P[start:stop].repeat_interleave(u_PVD.shape[1])

    @property
    def rows(self) -> int:
        return self._rows

    def segments(self) -> list[tuple[int, int]]:
        return [(0, len(self.y_K))]

    def keys(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.key_KD[start:stop], self.y_K[start:stop]


class MomentumQueue(Queue):
    """MoCo's queue: unit features of the momentum encoder, as they were when they were made."""

    from_momentum_encoder = True

    def make_row(self, u_MD: torch.Tensor, y_M: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return u_MD, torch.zeros_like(u_MD[:, 0])

    def keys(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.row_KD[start:stop].to(self.inverse_norm_K.dtype), self.y_K[start:stop]


class ProxyQueue(Queue):
    """The proxy-updated real-time queue: a row moves as its class proxy has moved since it was enqueued (Sec. III-C).

    The key now is u + (W_now[y] - W_then) / |W_then|, renormalised. What is stored is the residual r = u - W_then /
    |W_then| and 1 / |W_then|, so that the key is r + W_now[y] / |W_then|: the same key without a second D-wide buffer
    or a rewrite each step.

    Args:
        delta: "broadface" divides the proxy's move by |W_then| (BroadFace, Eq. 6, and the authors' code); "plain" does
            not, as the paper's sentence reads.
    """

    DELTAS = ("broadface", "plain")

    def __init__(
        self,
        size: int,
        head: ClassShard,
        dimension: int,
        dtype: str = "float32",
        delta: str = "broadface",
        **options: str,
    ):
        super().__init__(size, head, dimension, dtype, **options)
        self.delta = delta

    def make_row(self, u_MD: torch.Tensor, y_M: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        w_MD = self.head.weight[y_M - self.head.start].to(u_MD.dtype)
        inverse_M = torch.ones_like(w_MD[:, 0])
        if self.delta == "broadface":
            inverse_M = 1 / w_MD.norm(dim=1).clamp_min(1e-12)
        return u_MD - w_MD * inverse_M[:, None], inverse_M

    @torch.no_grad()
    def keys(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        y_c = self.y_K[start:stop]
        weight = self.head.weight
        room = self.scratch.take("key", weight, len(y_c), weight.shape[1])
        key_cD = torch.index_select(weight, 0, y_c - self.head.start, out=room)
        key_cD.mul_(self.inverse_norm_K[start:stop, None]).add_(self.row_KD[start:stop])
        return key_cD, y_c


def make_pool(
    name: str,
    head: ClassShard,
    dimension: int,
    size: int,
    delta: str = "broadface",
    dtype: str = "float32",
    **options: str,
) -> Pool | None:
    """The pool called `name`; None for "none" (no contrast at all). `options`: of `Pool`.

    Raises:
        ValueError: unknown name, delta, dtype or option's value, negative size.
    """
    if name not in NAMES or delta not in ProxyQueue.DELTAS:
        raise ValueError(f"pool {name!r} with delta {delta!r}: expected one of {NAMES} and one of {ProxyQueue.DELTAS}")
    if name == "batch":
        return BatchPool(**options)
    if name == "momentum":
        return MomentumQueue(size, head, dimension, dtype, **options)
    return ProxyQueue(size, head, dimension, dtype, delta, **options) if name == "proxy" else None
