"""What the gloo processes of tests/gloo.py are asked to do; each function runs alike on 1 and on N ranks."""

from tests.ranks.classes import head_steps, initial_weight, queue_steps
from tests.ranks.costs import Live, collectives_of_a_step, copies_of_a_checkpoint, storage_of_steps
from tests.ranks.groups import (
    agree,
    ddp_gradient,
    find_checkpoint,
    gather_and_sum,
    messages_between_hosts,
    open_folders,
    shared_buffers,
)
from tests.ranks.guarded import bad_feature, checked_step, skipped_steps
from tests.ranks.objective import (
    diagnosed_steps,
    first_backbone,
    first_error,
    make_objective,
    objective_steps,
    small_blocks,
)
from tests.ranks.training import train, train_compiled, train_real_steps

__all__ = [
    "Live",
    "agree",
    "bad_feature",
    "checked_step",
    "collectives_of_a_step",
    "copies_of_a_checkpoint",
    "ddp_gradient",
    "diagnosed_steps",
    "find_checkpoint",
    "first_backbone",
    "first_error",
    "gather_and_sum",
    "head_steps",
    "initial_weight",
    "make_objective",
    "messages_between_hosts",
    "objective_steps",
    "open_folders",
    "queue_steps",
    "shared_buffers",
    "skipped_steps",
    "small_blocks",
    "storage_of_steps",
    "train",
    "train_compiled",
    "train_real_steps",
]
