"""Where the negatives of the contrast come from: the batch, a momentum queue, the proxy-updated real-time queue (Sec.
III-C, Table II).

Every pool holds the rows of this rank and answers with the logsumexp over the rows of all ranks.

Shapes: `P` pairs of the global batch, `L` queries, `V` views, `M` rows to enqueue, `D` dimension, `K` rows held here,
    `c` of them in a block.
"""

import torch
from torch import nn

from recognition import sharded
from recognition.contrast import same_identity
from recognition.head import ClassShard
from utils import parallel

NAMES = ("none", "batch", "momentum", "proxy")
SAME_IDENTITY = ("excluded", "zero")
KEYS = ("unit", "clamped")


class Pool(nn.Module):
    """Negatives for low-quality queries. Subclasses say what a row's key is now.

    Args:
        same_identity: "excluded": rows of a query's own identity are no negatives; "zero": they are, with the cosine 0.
        keys: "unit": keys are normalised; "clamped": they are taken as they are, and their products clamped to [-1, 1].

    Raises:
        ValueError: another word.
    """

    from_momentum_encoder = False  # True: keys and positives come from the slowly moving encoder

    def __init__(self, same_identity: str = "excluded", keys: str = "unit"):
        super().__init__()
        if same_identity not in SAME_IDENTITY or keys not in KEYS:
            raise ValueError(
                f"contrast_same_identity={same_identity!r}, queue_keys={keys!r}: expected one of {SAME_IDENTITY} "
                f"and one of {KEYS}"
            )
        self.same_identity, self.clamped = same_identity, keys == "clamped"
        self.scratch = sharded.Scratch()

    @property
    def rows(self) -> int:
        """How many there are on all ranks."""
        raise NotImplementedError

    def enqueue(self, u_PVD: torch.Tensor, y_P: torch.Tensor) -> None:
        """Take in unit features of the whole global batch (no gradient is kept) and their labels (P,), int64."""
        raise NotImplementedError

    def segments(self) -> list[tuple[int, int]]:
        """The ranges of slots that hold rows."""
        raise NotImplementedError

    def keys(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys (c, D) of the slots [start, stop) as they are now, of any length, and their labels (c,)."""
        raise NotImplementedError

    def forward(self, q_LD: torch.Tensor, y_L: torch.Tensor, s: float) -> torch.Tensor:
        """(L,) log sum exp(s cos(q, k_j)) over the rows of other identities on all ranks; -inf where there are none.

        Args:
            q_LD: unit features, alike on every rank.
            y_L: their int64 class ids.
            s: scale.
        """
        lse_L = sharded.negatives_logsumexp(q_LD, PoolColumns(self, y_L), s, clamp if self.clamped else None)
        if self.same_identity == "excluded":
            return lse_L
        zeros_L = self._count(y_L).to(lse_L.dtype)
        return torch.where(zeros_L > 0, torch.logaddexp(lse_L, zeros_L.clamp_min(1).log()), lse_L)

    def _count(self, y_L: torch.Tensor) -> torch.Tensor:
        """(L,) how many rows each identity has on all ranks."""
        y_K = torch.cat([self.y_K[start:stop] for start, stop in self.segments()]).sort().values
        return parallel.total(torch.searchsorted(y_K, y_L, right=True) - torch.searchsorted(y_K, y_L))


def clamp(product_Lc: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Products clamped to [-1, 1], and the slope of that."""
    return product_Lc.clamp(-1, 1), (product_Lc.abs() <= 1).to(product_Lc.dtype)


class PoolColumns(sharded.Columns):
    """The rows of a pool, made block by block, without those of the query's own identity."""

    def __init__(self, pool: Pool, y_L: torch.Tensor):
        self.pool, self.y_L, self.scratch = pool, y_L, pool.scratch
        width = sharded.block_size(y_L.device)
        self.blocks = [
            (first, min(first + width, stop)) for start, stop in pool.segments() for first in range(start, stop, width)
        ]

    def vectors(self, k: int) -> torch.Tensor:
        vectors, self.y_c = self.pool.keys(*self.blocks[k])
        return vectors

    def inverse_norm(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors.new_ones(len(vectors)) if self.pool.clamped else super().inverse_norm(vectors)

    def hide(self, logits_Lc: torch.Tensor, k: int) -> None:
        logits_Lc.masked_fill_(same_identity(self.y_L, self.y_c), -torch.inf)


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


DTYPES = ("float32", "float16", "bfloat16")


class Queue(Pool):
    """FIFO of the newest `size` rows of the run by global sequence number; a rank holds the rows of its own classes.

    Rows sit in a ring that grows up to `size` slots, since a rank may own anything between none and all of the newest
    rows.

    Args:
        size: Q, rows over all ranks; 0 is an empty pool.
        head: the classifier whose class range (and, for proxies, weight) the rows follow.
        dimension: D.
        dtype: how the rows are stored, one of `DTYPES`; what is computed from them is in the queries' precision.
        options: of `Pool`.

    Raises:
        ValueError: negative size or another dtype.
    """

    FIELDS = ("row_KD", "inverse_norm_K", "y_K", "sequence_K")

    def __init__(self, size: int, head: ClassShard, dimension: int, dtype: str = "float32", **options: str):
        super().__init__(**options)
        if size < 0:
            raise ValueError(f"queue_size={size}: expected 0 or more rows")
        if dtype not in DTYPES:
            raise ValueError(f"queue_dtype={dtype!r}: expected one of {DTYPES}")
        self.size, self._head = size, [head]  # in a list: the head's parameters are not the queue's
        self.register_buffer("row_KD", torch.empty(0, dimension, dtype=getattr(torch, dtype)), persistent=False)
        self.register_buffer("inverse_norm_K", torch.empty(0), persistent=False)
        self.register_buffer("y_K", torch.empty(0, dtype=torch.int64), persistent=False)
        self.register_buffer("sequence_K", torch.empty(0, dtype=torch.int64), persistent=False)
        self.oldest, self.count, self.next_sequence = 0, 0, 0

    @property
    def head(self) -> ClassShard:
        return self._head[0]

    @property
    def rows(self) -> int:
        return min(self.size, self.next_sequence)

    def make_row(self, u_MD: torch.Tensor, y_M: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What is stored for a feature: (M, D) rows and (M,) scalars."""
        raise NotImplementedError

    @torch.no_grad()
    def enqueue(self, u_PVD: torch.Tensor, y_P: torch.Tensor) -> None:
        """Append view by view (k of all pairs, then q of all pairs); only the rows of this rank's classes are kept
        here.
        """
        u_BD, y_B = u_PVD.transpose(0, 1).flatten(0, 1), y_P.repeat(u_PVD.shape[1])
        sequence_B = self.next_sequence + torch.arange(len(y_B), device=y_B.device)
        self.next_sequence += len(y_B)
        keep = (y_B >= self.head.start) & (y_B < self.head.stop)
        keep &= sequence_B >= self.next_sequence - self.size
        y_M = y_B[keep]
        row_MD, inverse_norm_M = self.make_row(u_BD[keep], y_M)
        self._append(row_MD, inverse_norm_M, y_M, sequence_B[keep])

    def _append(self, *values: torch.Tensor) -> None:
        cutoff = self.next_sequence - self.size
        live = self.live()
        expired = int((self.sequence_K[live] < cutoff).sum())
        more, capacity = len(values[0]), len(self.y_K)
        if self.count - expired + more > capacity:
            self._lay_out(live[expired:], min(self.size, max(2 * capacity, self.count - expired + more)))
        else:
            self.oldest, self.count = (self.oldest + expired) % max(capacity, 1), self.count - expired
        if more:
            slots = self.oldest + self.count + torch.arange(more, device=live.device)
            slots %= len(self.y_K)
            for name, value in zip(self.FIELDS, values, strict=True):
                buffer = getattr(self, name)
                buffer[slots] = value.to(buffer.dtype)
            self.count += more

    def _lay_out(self, live: torch.Tensor, capacity: int) -> None:
        for name in self.FIELDS:
            old = getattr(self, name)
            new = old.new_zeros(capacity, *old.shape[1:])
            new[: len(live)] = old[live]
            setattr(self, name, new)
        self.oldest, self.count = 0, len(live)

    def segments(self) -> list[tuple[int, int]]:
        end, capacity = self.oldest + self.count, len(self.y_K)
        return [(self.oldest, min(end, capacity)), (0, max(end - capacity, 0))]

    def live(self) -> torch.Tensor:
        """Slots of the rows held, oldest first."""
        return torch.cat([torch.arange(*segment, device=self.y_K.device) for segment in self.segments()])

    def pieces(self) -> dict[str, list[torch.Tensor]]:
        """The rows held, oldest first, field by field, as views of the ring: two where they go round its end."""
        ranges = [slice(*segment) for segment in self.segments()]
        return {name: [getattr(self, name)[piece] for piece in ranges] for name in self.FIELDS}

    def state(self) -> dict[str, torch.Tensor]:
        """The rows held, oldest first, as plain tensors: they can be merged over ranks and cut again by label."""
        return {name: torch.cat(pieces) for name, pieces in self.pieces().items()}

    def ring(self) -> torch.Tensor:
        """int64 (2,): the slot of the oldest row and how many slots there are. Sums go round the ring block by
        block, so their last bits depend on it.
        """
        return torch.tensor([self.oldest, len(self.y_K)])

    def load_state(self, state: dict[str, torch.Tensor], next_sequence: int, ring: torch.Tensor | None = None) -> None:
        """Take over rows that any ranks saved: those of this rank's classes, in sequence order.

        Args:
            state: fields as `state` returned them, of one rank or joined over several.
            next_sequence: of the next row.
            ring: of the rank that saved them, where it had the same classes; None: a ring without free slots.
        """
        mine = ((state["y_K"] >= self.head.start) & (state["y_K"] < self.head.stop)).nonzero().squeeze(1)
        order = mine[torch.argsort(state["sequence_K"][mine])]
        oldest, capacity = (0, len(order)) if ring is None else ring.tolist()
        slots = (oldest + torch.arange(len(order))) % max(capacity, 1)
        for name in self.FIELDS:
            old = getattr(self, name)
            new = old.new_zeros(capacity, *old.shape[1:])
            new[slots.to(old.device)] = state[name][order].to(old.device, old.dtype)
            setattr(self, name, new)
        self.oldest, self.count, self.next_sequence = oldest, len(order), next_sequence


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
