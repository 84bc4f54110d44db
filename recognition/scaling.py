"""Scale on paper: what a run needs on a rank and what it sends in a step, before it starts (docs/scaling.md).

Memory is in bytes on the rank with the most classes. Traffic is counted as the payload that a rank hands to each
collective; from it follows what the rank sends where the collective goes round a ring.
"""

from typing import NamedTuple

import torch

MIB, GIB = 2**20, 2**30
FLOAT = 4  # bytes
ADVICE = "use more ranks, queue_dtype='float16' or a smaller queue_size"


class Setup(NamedTuple):
    """What memory and traffic follow from; the letters are those of docs/scaling.md."""

    num_classes: int  # n
    pairs: int  # P, images of a global batch
    ranks: int = 1  # R
    embedding_size: int = 512  # d
    views: int = 1  # V
    sample_rate: float = 1.0  # r
    slots: int = 1  # m, tensors of the weights' size that the optimizer keeps: see `optimizer_slots`
    pool: str = "none"
    queue_size: int = 0  # Q
    queue_dtype: str = "float32"
    memory_budget: int = 256 * MIB  # E, bytes
    block: int = 16384  # columns that are worked on together, see `sharded.block_size`
    half: bool = False  # autocast: features and activations have two bytes
    gradient_acc: int = 1  # a, batches per step

    @property
    def samples(self) -> int:
        """B, of the global batch."""
        return self.pairs * self.views

    @property
    def classes(self) -> int:
        """C, rows of W on the rank that has most."""
        return -(-self.num_classes // self.ranks)

    @property
    def columns(self) -> int:
        """S, those of them that a step sees: its positives, on average, and a share of the others."""
        positives = min(self.pairs / self.ranks, self.classes)
        return round(self.sample_rate * self.classes + (1 - self.sample_rate) * positives)

    @property
    def queue_rows(self) -> int:
        """K, rows of the full queue on a rank, where the identities of all ranks have as many images."""
        return -(-self.queue_size // self.ranks) if self.pool in ("momentum", "proxy") else 0

    @property
    def queue_slots(self) -> int:
        """Rows that there is room for: a ring doubles, up to Q, when it is full."""
        return min(self.queue_size, 2 * self.queue_rows) if self.ranks > 1 else self.queue_rows


class Network(NamedTuple):
    """Bytes of a backbone (tools/plan.py: `measure`)."""

    weights: int
    trainable: int  # those of them that have a gradient
    buffers: int
    activations: int  # kept for the backward pass of one image, in float32


class Collective(NamedTuple):
    """A call to all ranks, and the bytes that each of them hands over."""

    what: str
    kind: str  # "all_gather" or "all_reduce"
    payload: int

    def sent(self, ranks: int) -> float:
        """Bytes that a rank sends round a ring."""
        return self.payload * (ranks - 1) * (1 if self.kind == "all_gather" else 2 / ranks)


def optimizer_slots(kind: str, momentum: float) -> int:
    """How many tensors of the weights' size "sgd" or "adamw" keeps."""
    return 2 if kind == "adamw" else int(momentum > 0)


def row_bytes(embedding_size: int, dtype: str) -> int:
    """A row of the queue: the vector, 1/|W_then| (float32), label and sequence number (int64)."""
    return embedding_size * getattr(torch, dtype).itemsize + FLOAT + 8 + 8


def classifier_bytes(setup: Setup) -> int:
    """What stays on a rank whatever the batch: W, its optimizer slots and the queue."""
    parts = memory(setup)
    return sum(parts[name] for name in ("W", "W: optimizer slots", "queue"))


def checkpoint_bytes(setup: Setup, network: Network | None = None) -> int:
    """The copy of what a checkpoint has, in the host's memory: it is written from there while training goes on.

    Of rank 0, which copies the backbone too; without scalars, of which there are some for each part.
    """
    W = setup.classes * setup.embedding_size * FLOAT
    own = (1 + setup.slots) * W + setup.queue_rows * row_bytes(setup.embedding_size, setup.queue_dtype)
    if network is None:
        return own
    copies = 2 if setup.pool == "momentum" else 1  # the slowly moving encoder
    return own + copies * (network.weights + network.buffers) + setup.slots * network.trainable


def check_fits(setup: Setup, free: int | None, host: bool = False) -> None:
    """Refuse a run before it takes its memory.

    Args:
        setup: of the run.
        free: bytes that this rank has; None: nobody knows.
        host: they are the host's, so the copy for checkpoints is taken from them too.

    Raises:
        ValueError: W, its optimizer slots, the queue and, on the host, their copy need more.
    """
    needed = classifier_bytes(setup) + (checkpoint_bytes(setup) if host else 0)
    if free is not None and needed > free:
        queue = f", queue_size={setup.queue_size} in {setup.queue_dtype}" if setup.queue_slots else ""
        raise ValueError(
            f"num_classes={setup.num_classes}, embedding_size={setup.embedding_size}{queue}, ranks={setup.ranks}: "
            f"{needed / GIB:.1f} GiB are needed on a rank, {free / GIB:.1f} GiB are free there; {ADVICE}"
        )


def memory(setup: Setup, network: Network | None = None) -> dict[str, int]:
    """Bytes on a rank by part, at the peak of a step."""
    d, row = setup.embedding_size, row_bytes(setup.embedding_size, setup.queue_dtype)
    W = setup.classes * d * FLOAT
    wanted = setup.gradient_acc * setup.samples * setup.columns * FLOAT
    parts = {
        "W": W,
        "W: optimizer slots": setup.slots * W,
        "W: gradient, in blocks": _gradient_blocks(setup, wanted),
        "cosines, kept": min(wanted, setup.memory_budget),
        "queue": setup.queue_slots * row,
        "queue: while it grows": 2 * setup.queue_rows * (row - FLOAT - 8 - 8),
        "queue: keys, in blocks": _key_blocks(setup),
        "features": round(_features(setup) * setup.samples * d * FLOAT),
    }
    return parts | (_network(setup, network) if network is not None else {})


def _gradient_blocks(setup: Setup, wanted: int) -> int:
    """The work space of `ClassShard`: nothing of it grows with the number of classes but one float for each."""
    d, B, c = setup.embedding_size, setup.samples, min(setup.block, setup.columns)
    floats = B * d + 2 * c * d  # weighted features; the gradient of a block, and a product with it
    floats += setup.gradient_acc * setup.columns  # 1/|w|
    if wanted > setup.memory_budget:
        floats += B * c  # a block of cosines
    if setup.sample_rate < 1:
        floats += (2 + setup.slots) * c * d  # the sampled rows, for the loss and, with their slots, for the update
    if setup.gradient_acc > 1:
        floats += (setup.gradient_acc + 1) * c * d
    return floats * FLOAT


def _key_blocks(setup: Setup) -> int:
    rows = setup.pairs * setup.views / setup.ranks if setup.pool == "batch" else setup.queue_rows
    c = min(setup.block, round(rows))
    made = setup.pool == "proxy" or (setup.pool == "momentum" and setup.queue_dtype != "float32")
    return c * (made * setup.embedding_size * FLOAT + setup.pairs * (FLOAT + 1))  # keys, cosines, mask


def _features(setup: Setup) -> float:
    """Tensors of the size (B, d) at the peak of the two losses; the number is measured (tests/tools/test_plan.py)."""
    batch = min(9, 7 + 3 / setup.ranks) + 2 / setup.ranks * (setup.pool != "none")
    return batch + (setup.gradient_acc - 1) * (1 + 4 / setup.ranks)


def _network(setup: Setup, network: Network) -> dict[str, int]:
    images = -(-setup.pairs // setup.ranks) * setup.views
    copies = 2 if setup.pool == "momentum" else 1  # the slowly moving encoder
    return {
        "backbone": copies * (network.weights + 2 * network.buffers) + setup.half * network.weights // 2,
        "backbone: gradients": network.trainable * (2 if setup.ranks > 1 else 1),  # and the buckets they are sent in
        "backbone: optimizer slots": setup.slots * network.trainable,
        "backbone: activations": images * network.activations // (2 if setup.half else 1),
    }


def traffic(setup: Setup, network: Network | None = None, lq_pairs: int | None = None) -> list[Collective]:
    """The collectives of a step, in their order.

    Args:
        setup: of the run.
        network: the backbone, whose gradients are summed over ranks.
        lq_pairs: L of each batch; None: every pair is contrasted, which is the most.
    """
    if setup.ranks == 1:
        return []
    b = -(-setup.pairs // setup.ranks)  # the gather pads every rank to the longest
    vector = setup.embedding_size * (2 if setup.half else FLOAT)
    batch = [Collective("features", "all_gather", b * setup.views * vector)]
    if setup.pool == "momentum":
        batch.append(Collective("keys", "all_gather", b * vector))
    batch.append(Collective("labels", "all_gather", b * 8))
    batch += _logsumexp("classification", setup.samples * FLOAT)
    if setup.pool != "none":
        batch += _logsumexp("contrast", (setup.pairs if lq_pairs is None else lq_pairs) * FLOAT)
    batch.append(Collective("gradient of the features", "all_reduce", setup.samples * setup.embedding_size * FLOAT))
    gradients = [Collective("gradient of the backbone", "all_reduce", network.trainable)] if network else []
    return batch * setup.gradient_acc + gradients + [Collective("between hosts: stop, failure", "all_reduce", 16)]


def _logsumexp(loss: str, payload: int) -> list[Collective]:
    return [Collective(f"{loss}: {what}", "all_reduce", payload) for what in ("target", "maximum", "sum")]
