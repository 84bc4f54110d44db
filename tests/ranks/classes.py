"""Steps of the classifier and of the queue."""

import torch
from torch import nn

from recognition import sharded
from recognition.head import ClassShard
from recognition.pools import make_pool
from recognition.row_optimizer import RowOptimizer
from tests.ranks.objective import small_blocks


def head_steps(case: dict) -> list[dict]:
    """Let the classifier take steps; before the first and after each: W, its slots; of each: sampled classes, bytes
    kept, the budget.

    `case`: N, D, optimizer (arguments of RowOptimizer), steps [(lr, [(u_BD, y_B)] micro-batches)], and may have
    sample_rate, budget (MiB), block, scale (of the loss), forgotten (micro-batches whose gradient each step drops).
    """
    rate, budget, scale = case.get("sample_rate", 1.0), case.get("budget", 1), case.get("scale", 1.0)
    head = ClassShard(case["N"], case["D"], rate, seed=3, memory_budget=budget).double()
    head.weight.mul_(100)  # rows of about unit norm: the decay is felt beside the gradient
    kind, *options = case["optimizer"]
    optimizer = RowOptimizer(kind, head.weight, *options)

    def now(**more) -> dict:
        slots = {name: slot.clone() for name, slot in optimizer.slots.items()}
        return {"W": head.weight.clone(), "slots": slots, **more}

    report = [now()]
    for lr, micro_batches in case["steps"]:
        with small_blocks(case.get("block", 3)):
            for i, (u_BD, y_B) in enumerate(micro_batches):
                if i == case.get("forgotten", 0):
                    head.forget()
                u_BD = u_BD.clone().requires_grad_()
                target_B = head.target(u_BD, y_B) - 0.2
                loss = sharded.softmax_loss(16 * target_B, head.negatives(u_BD, y_B, 16.0)).mean()
                (loss * scale).backward()
            traces = head._traces[:]
            sampled = [trace.columns.ids_S for trace in traces]
            kept = [[e.nbytes for e, _ in trace.kept.values()] for trace in traces]
            head.step(optimizer, lr, scale)
        sampled = [None if ids is None else ids + head.start for ids in sampled]
        report.append(now(sampled=sampled, kept=kept, budget=head.budget))
    return report


def initial_weight(num_classes: int) -> torch.Tensor:
    """This rank's rows of a new classifier."""
    return ClassShard(num_classes, 4, seed=3).weight


def queue_steps(case: dict) -> list[dict]:
    """Enqueue given global batches while W drifts; after each: the rows as saved and as keys, their slots, an answer.

    `case`: N, D, Q, steps [(W, u_PVD, y_P)], queries (q_LD, y_L), and may have pool, delta, dtype, queue_dtype, s,
    start (rows and next_sequence as saved).
    """
    dtype = case.get("dtype", torch.float64)
    head = ClassShard(case["N"], case["D"]).to(dtype)
    stored, delta = case.get("queue_dtype", "float32"), case.get("delta", "broadface")
    queue = make_pool(case.get("pool", "proxy"), head, case["D"], case["Q"], delta, stored)
    if stored == "float32":
        queue = queue.to(dtype)
    if "start" in case:
        queue.load_state(*case["start"])
    report = []
    for W, u_PVD, y_P in case["steps"]:
        head.weight.copy_(W[head.start : head.stop])
        queue.enqueue(u_PVD.to(dtype), y_P)
        with small_blocks(case.get("block", 5)):
            lse_L = queue(case["queries"][0].to(dtype), case["queries"][1], case.get("s", 16.0))
        parts = [queue.keys(*segment)[0].clone() for segment in queue.segments()]
        report.append(
            {
                "state": queue.state(),
                "next_sequence": queue.next_sequence,
                "key_KD": nn.functional.normalize(torch.cat(parts)),
                "slots": [slot for segment in queue.segments() for slot in range(*segment)],
                "bytes": queue.row_KD.nbytes,
                "lse_L": lse_L,
            }
        )
    return report
