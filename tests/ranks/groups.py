"""Messages between ranks, and what ranks agree on."""

import contextlib
from pathlib import Path
from unittest import mock

import torch
import torch.distributed as dist
from torch import nn

from eval.features import extract
from tests.numbered import Numbered, number
from utils import parallel, resume
from utils.run_folder import RunFolder


def gather_and_sum() -> dict:
    """gather_rows and sum_over_ranks on uneven shares, with their gradients."""
    rank, size = parallel.rank(), parallel.world_size()
    start, stop = parallel.share(5, rank, size)
    x = torch.arange(10, dtype=torch.float64).view(5, 2)[start:stop].clone().requires_grad_()
    everything = parallel.gather_rows(x, 5)
    parallel.sum_over_ranks((everything**2).sum() * (rank + 1)).backward()
    return {
        "gathered": everything.detach(),
        "grad": x.grad,
        "labels": parallel.gather_rows(torch.arange(start, stop), 5),
    }


def open_folders(paths: list[str]) -> str:
    """What opening this rank's folder says."""
    try:
        RunFolder(Path(paths[parallel.rank()])).open()
    except ValueError as error:
        return str(error)
    return ""


def shared_buffers() -> list[float]:
    """The running mean of BatchNorm after evaluation statistics were shared."""
    norm = nn.BatchNorm1d(1)
    norm(torch.tensor([[1.0], [3.0]]) * (parallel.rank() + 1))
    parallel.share_buffers(norm)
    return norm.running_mean.tolist()


def ddp_gradient() -> torch.Tensor:
    """Gradient of a linear layer whose loss is summed over uneven shares of one batch."""
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    x = torch.randn(5, 3)
    start, stop = parallel.share(5, parallel.rank(), parallel.world_size())
    network = parallel.data_parallel(layer, torch.device("cpu"))
    (network(x[start:stop]) ** 2).sum().backward()
    return layer.weight.grad


def features_of_numbers(count, fails=None):
    """First coordinates of the features that a rank gets of numbered images; or what it says of the one that fails."""
    try:
        return extract(number, Numbered(count, fails), "none").h[:, 0].tolist()
    except ValueError as error:
        return str(error)


def agree(facts):
    """What `must_agree` says to this rank, whose facts are at its place in the list."""
    try:
        parallel.must_agree("val_dir", facts[parallel.rank()])
    except ValueError as error:
        return str(error)
    return None


def messages_between_hosts() -> list[bool]:
    """Whether what is no tensor of a device goes through the group of the hosts, where there is one."""
    names = ("barrier", "all_gather_object", "all_reduce")
    with mock.patch.object(parallel, "_hosts", [dist.new_group()]), contextlib.ExitStack() as stack:
        spies = [stack.enter_context(mock.patch.object(dist, name, wraps=getattr(dist, name))) for name in names]
        parallel.barrier()
        parallel.must_agree("number", {"size": parallel.objects(parallel.rank())})
        parallel.most(parallel.rank())
        return [call.kwargs["group"] is parallel._hosts[0] for spy in spies for call in spy.call_args_list]


def find_checkpoint(folders):
    """The checkpoint that this rank goes on from, in the run folder at its place in the list."""
    return str(resume.find(Path(folders[parallel.rank()]) / "checkpoints", "auto", print).path)
