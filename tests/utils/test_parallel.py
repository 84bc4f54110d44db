import pytest
import torch

from tests import gloo, ranks
from utils import parallel


@pytest.mark.parametrize("total", [0, 1, 5, 12])
@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_shares_are_contiguous_complete_and_even(total, parts):
    ranges = [parallel.share(total, part, parts) for part in range(parts)]
    assert [i for start, stop in ranges for i in range(start, stop)] == list(range(total))
    assert max(b - a for a, b in ranges) - min(b - a for a, b in ranges) <= 1


@pytest.mark.parametrize("world_size", [2, 3])
def test_uneven_rows_are_gathered_and_their_gradients_summed(world_size):
    answers = gloo.run(world_size, ranks.gather_and_sum)
    rows = torch.arange(10, dtype=torch.float64).view(5, 2)
    for rank, answer in enumerate(answers):
        assert torch.equal(answer["gathered"], rows)
        assert torch.equal(answer["labels"], torch.arange(5))
        start, stop = parallel.share(5, rank, world_size)
        # every rank uses all rows with weight rank + 1: d sum_r (r + 1) x^2 / dx
        assert torch.equal(answer["grad"], 2 * rows[start:stop] * sum(range(1, world_size + 1)))


@pytest.mark.parametrize("world_size", [2, 3])
def test_data_parallel_sums_the_gradients_of_uneven_shares(world_size):
    whole = gloo.run(1, ranks.ddp_gradient)[0]
    for gradient in gloo.run(world_size, ranks.ddp_gradient):
        torch.testing.assert_close(gradient, whole)


def test_buffers_become_those_of_rank_0():
    assert gloo.run(2, ranks.shared_buffers) == gloo.run(1, ranks.shared_buffers) * 2


def test_messages_go_between_hosts_and_wait_for_no_gpu():
    # NCCL's barrier guesses the GPU, and warns of a hang; its all_gather_object pickles through GPU memory
    assert gloo.run(2, ranks.messages_between_hosts) == [[True] * 4] * 2


def test_a_gpu_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert parallel.choose_device("auto").type == "cpu"
    with pytest.raises(ValueError, match="device='cuda': process 0 asks for GPU 0 and 0 are visible"):
        parallel.choose_device("cuda")
    with pytest.raises(ValueError, match="expected 'auto', 'cpu' or 'cuda'"):
        parallel.choose_device("gpu")


@pytest.mark.parametrize("facts", [[{}, {"lfw": "d1"}], [{"lfw": "d1"}, {}], [{"lfw": "d1"}, {"lfw": "d2"}]])
def test_facts_that_differ_are_told_on_every_rank(facts):
    said = gloo.run(2, ranks.agree, facts)
    assert said[0] == said[1] and "val_dir differs between processes: lfw=" in said[0]
    assert gloo.run(2, ranks.agree, [facts[0], facts[0]]) == [None, None]
