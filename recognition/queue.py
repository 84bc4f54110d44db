"""A pool that remembers: the newest rows of the run, in a ring.

Shapes: `P` pairs of the global batch, `V` views, `B` = P V samples, `M` rows to enqueue, `D` dimension, `K` slots of
    this rank.
"""

import torch

from recognition.head import ClassShard
from recognition.pool import Pool

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
        self.row_KD: torch.Tensor
        self.inverse_norm_K: torch.Tensor
        self.sequence_K: torch.Tensor
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
        is_kept_B = (y_B >= self.head.start) & (y_B < self.head.stop)
        is_kept_B &= sequence_B >= self.next_sequence - self.size
        kept_M = is_kept_B.nonzero().squeeze(1)  # once: a GPU has to be waited for
        y_M = y_B[kept_M]
        row_MD, inverse_norm_M = self.make_row(u_BD[kept_M], y_M)
        self._append(row_MD, inverse_norm_M, y_M, sequence_B[kept_M])

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
