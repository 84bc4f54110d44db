"""What the queries meet in the pool: negatives, rows hidden from them, how old the rows are, how far they have moved.

All numbers are of the rows of all ranks, and alike on every rank.

Shapes: `P` pairs of the global batch, `V` views of each, `D` dimension, `K` pool rows of this rank, `S` of them looked
    at one by one.
"""

import math

import torch
from torch import nn

from recognition.contrast import same_identity
from recognition.outcome import Seen
from recognition.pool import Pool
from recognition.pools import ProxyQueue
from recognition.queue import Queue
from utils import parallel

SAMPLE = 256  # rows of a queue that are looked at one by one


def stride_of(size: int) -> int:
    """Every how many-th row of a queue of `size` rows is looked at."""
    return max(1, -(-size // SAMPLE))


class QueueSample(nn.Module):
    """Every n-th row of a queue: its unit feature as it was when it was enqueued.

    Alike on every rank, and part of a checkpoint, so that a run that goes on finds what it had.

    Args:
        size: Q of the queue, at least 1.
        dimension: D.
    """

    def __init__(self, size: int, dimension: int):
        super().__init__()
        self.size, self.stride = size, stride_of(size)
        self.u_SD: torch.Tensor
        self.sequence_S: torch.Tensor
        capacity = -(-size // self.stride)
        self.register_buffer("u_SD", torch.zeros(capacity, dimension))
        self.register_buffer("sequence_S", torch.full((capacity,), -1, dtype=torch.int64))

    @torch.no_grad()
    def follow(self, u_PVD: torch.Tensor, next_sequence: int) -> None:
        """Take in what a batch has put into the queue.

        Args:
            u_PVD: its unit features, alike on every rank.
            next_sequence: of the queue after it.
        """
        P, V = u_PVD.shape[:2]
        begin = next_sequence - P * V
        first = -(-max(begin, next_sequence - self.size) // self.stride) * self.stride
        sequence_S = torch.arange(first, next_sequence, self.stride, device=u_PVD.device)
        row_S, slot_S = sequence_S - begin, self._slot(sequence_S)
        self.u_SD[slot_S] = u_PVD[row_S % P, row_S // P].to(self.u_SD.dtype)  # a queue takes view by view
        self.sequence_S[slot_S] = sequence_S

    def find(self, sequence_S: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows by their sequence numbers: which of them are known (S,) bool, and their features (S, D)."""
        slot_S = self._slot(sequence_S)
        return self.sequence_S[slot_S] == sequence_S, self.u_SD[slot_S]

    def _slot(self, sequence_S: torch.Tensor) -> torch.Tensor:
        return sequence_S // self.stride % len(self.sequence_S)


@torch.no_grad()
def pool_numbers(pool: Pool, seen: Seen, sample: QueueSample | None, gradient_acc: int) -> dict[str, float]:
    """Of a micro-batch whose rows are in the pool; the queries are the augmented images of all its pairs.

    Args:
        sample: of a `ProxyQueue` that has rows.
        gradient_acc: micro-batches of a step.

    Returns:
        by name, nan where there is nothing to average:
        masked_rows: rows of a query's own identity, which it does not see; mean over queries.
        negative_cosine, negative_difference: mean cos(q, key) and |q - key| of unit vectors over the queries and rows
            of other identities; of a queue every n-th row, `SAMPLE` at most.
        queue_fill: share of the queue's Q rows that are there.
        queue_age_mean, queue_age_max: steps since a row was enqueued.
        proxy_drift: mean |W_now - W_then| / |W_then| of the rows' proxies (queue_delta="plain": over |W_now|), and
        key_shift: mean |key_now - key_then| of unit keys; both of every n-th row.
    """
    slots_K = torch.cat([torch.arange(*segment, device=seen.y_P.device) for segment in pool.segments()])
    queue = pool if isinstance(pool, Queue) else None
    slots_S = slots_K if queue is None else slots_K[queue.sequence_K[slots_K] % stride_of(queue.size) == 0]
    key_SD = keys_at(pool, slots_S, seen.u_PVD.shape[2]).to(seen.u_PVD.device)
    sums = {"masked": pool.rows_of(seen.y_P).sum()} | negatives(key_SD, pool.y_K[slots_S], seen)
    if queue is not None:
        sums |= {"rows": torch.tensor(len(slots_K)), **ages(queue, slots_K, seen, gradient_acc)}
    if sample is not None and isinstance(pool, ProxyQueue):
        sums |= movement(pool, sample, slots_S, key_SD)
    oldest = sums.pop("oldest", None)
    total = _over_ranks(sums, seen.y_P.device)
    numbers = {
        "masked_rows": total["masked"] / len(seen.y_P),
        "negative_cosine": _mean(total["cosine"], total["negatives"]),
        "negative_difference": _mean(total["difference"], total["negatives"]),
    }
    if queue is not None and oldest is not None:
        numbers |= {
            "queue_fill": _mean(total["rows"], queue.size),
            "queue_age_mean": _mean(total["age"], total["rows"]),
            "queue_age_max": float(parallel.largest(oldest)) if total["rows"] else math.nan,
        }
    if sample is not None:
        numbers["proxy_drift"] = _mean(total["drift"], total["known"])
        numbers["key_shift"] = _mean(total["shift"], total["known"])
    return numbers


def keys_at(pool: Pool, slots_S: torch.Tensor, dimension: int) -> torch.Tensor:
    """(S, D) float64 keys of some slots, not normalised."""
    keys = [pool.keys(slot, slot + 1)[0].to(torch.float64, copy=True) for slot in slots_S.tolist()]
    return torch.cat([torch.empty(0, dimension, dtype=torch.float64, device=slots_S.device), *keys])


def negatives(key_SD: torch.Tensor, y_S: torch.Tensor, seen: Seen) -> dict[str, torch.Tensor]:
    """Sums over the pairs of a query and a row of another identity, and how many there are."""
    q_PD = seen.u_PVD[:, -1].double()
    cos_PS = (q_PD @ nn.functional.normalize(key_SD).t()).clamp(-1, 1)
    is_negative_PS = ~same_identity(seen.y_P, y_S)
    difference_PS = (2 - 2 * cos_PS).sqrt()  # of unit vectors
    return {
        "cosine": (cos_PS * is_negative_PS).sum(),
        "difference": (difference_PS * is_negative_PS).sum(),
        "negatives": is_negative_PS.sum(),
    }


def ages(queue: Queue, slots_K: torch.Tensor, seen: Seen, gradient_acc: int) -> dict[str, torch.Tensor]:
    """Sum and maximum of the rows' ages in steps."""
    P, V = seen.u_PVD.shape[:2]
    rows_per_step = P * (1 if queue.from_momentum_encoder else V) * gradient_acc
    age_K = (queue.next_sequence - 1) // rows_per_step - queue.sequence_K[slots_K] // rows_per_step
    return {"age": age_K.sum(), "oldest": torch.cat([age_K.new_zeros(1), age_K]).amax()}


def movement(
    queue: ProxyQueue, sample: QueueSample, slots_S: torch.Tensor, key_SD: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Sums over the rows whose features are known as they were, and how many there are."""
    is_known_S, u_SD = sample.find(queue.sequence_K[slots_S])
    moved_SD = key_SD - u_SD.double()  # (W_now - W_then) / |W_then|; with delta="plain" W_now - W_then
    drift_S = moved_SD.norm(dim=1)
    if queue.delta == "plain":
        drift_S = drift_S / queue.head.weight[queue.y_K[slots_S] - queue.head.start].double().norm(dim=1)
    shift_S = (nn.functional.normalize(key_SD) - u_SD.double()).norm(dim=1)
    return {"drift": drift_S[is_known_S].sum(), "shift": shift_S[is_known_S].sum(), "known": is_known_S.sum()}


def _over_ranks(sums: dict[str, torch.Tensor], device: torch.device) -> dict[str, float]:
    together = parallel.total(torch.stack([value.to(device, torch.float64) for value in sums.values()]))
    return dict(zip(sums, together.tolist(), strict=True))


def _mean(total: float, count: float) -> float:
    return total / count if count else math.nan
