"""1:N against loops over sorted lists, by hand, perfect, worst and collapsed."""

import numpy as np
import pytest

from eval.ijb.identification import FPIRS, RANKS, identify
from eval.ijb.subjects import SearchLists, Subjects


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def search_of(first, second, probes):
    """Galleries and probes that take the rows one after the other."""
    parts, start = [], 0
    for subject in (first, second, probes):
        parts.append(Subjects(np.arange(start, start + len(subject)), np.array(subject)))
        start += len(subject)
    return SearchLists((parts[0], parts[1]), parts[2])


def together(scores, mate):
    """InsightFace's numbers: every score in one list."""
    metrics = {}
    ranks = [1 + sum(s >= row[m] for j, s in enumerate(row) if j != m) for row, m in zip(scores, mate, strict=True)]
    for k in RANKS.values():
        metrics[f"rank{k}"] = sum(rank <= k for rank in ranks) / len(ranks)
    others = sorted((s for row, m in zip(scores, mate, strict=True) for j, s in enumerate(row) if j != m), reverse=True)
    for fpir in FPIRS.values():
        threshold = others[int(np.ceil(len(scores) * fpir)) - 1]
        metrics[f"tpir@fpir={fpir:g}"] = sum(row[m] > threshold for row, m in zip(scores, mate, strict=True)) / len(
            scores
        )
    return metrics


def one_gallery(scores, mate, low, high):
    """The papers' numbers in the gallery that is columns low ... high - 1."""
    mated = [i for i, m in enumerate(mate) if low <= m < high]
    alarms = sorted((max(scores[i][low:high]) for i in range(len(mate)) if i not in mated), reverse=True)
    metrics = {}
    for k in RANKS.values():
        better = [sum(scores[i][j] >= scores[i][mate[i]] for j in range(low, high) if j != mate[i]) for i in mated]
        metrics[f"galleries_rank{k}"] = np.mean([b < k for b in better])
    for fpir in FPIRS.values():
        threshold = min(t for t in alarms if sum(a > t for a in alarms) <= fpir * len(alarms))
        metrics[f"galleries_tpir@fpir={fpir:g}"] = np.mean([scores[i][mate[i]] > threshold for i in mated])
    return metrics


@pytest.mark.parametrize("seed", range(6))
def test_equal_to_loops(monkeypatch, seed):
    monkeypatch.setattr("eval.ijb.scores.ROWS", 16)
    generator = np.random.default_rng(seed)
    first, second = 17, 23
    subject = generator.permutation(100)[: first + second]
    mate = generator.integers(0, first + second, 150)
    centres = generator.normal(size=(first + second, 12))
    u = unit(np.concatenate([centres, centres[mate] + generator.normal(size=(150, 12))]))
    u[5], u[45] = u[20], u[46]  # equal templates: a tie for those who look for them
    metrics, ranks = identify(u, search_of(subject[:first], subject[first:], subject[mate]))
    scores = np.sum(u[40:, None] * u[None, :40], axis=2).tolist()
    assert {name: metrics[name] for name in metrics if "galleries" not in name} == together(scores, mate)
    parts = one_gallery(scores, mate, 0, first), one_gallery(scores, mate, first, first + second)
    for name in parts[0]:
        assert metrics[name] == pytest.approx((parts[0][name] + parts[1][name]) / 2, abs=1e-12)
    assert ranks.dtype == np.int32 and np.mean(ranks <= 5) == metrics["rank5"]


def test_by_hand():
    """Gallery (1, 0), (0, 1); one probe nearer to its mate, one nearer to the other, one between them: a tie."""
    u = unit(np.array([[1, 0], [0, 1], [2, 1], [3, 2], [1, 1]], float))
    metrics, ranks = identify(u, search_of([7], [8], [7, 8, 7]))
    assert ranks.tolist() == [1, 2, 2]
    assert metrics["rank1"] == pytest.approx(1 / 3) and metrics["rank5"] == 1
    assert metrics["tpir@fpir=0.1"] == pytest.approx(1 / 3)  # (2, 1): 0.894 > 0.832, the highest score of no mate
    assert metrics["galleries_rank1"] == 1
    # gallery 7: alarm of (3, 2) at 0.832, mates at 0.894 and 0.707; gallery 8: alarms 0.707, 0.447, mate at 0.555
    assert metrics["galleries_tpir@fpir=0.1"] == pytest.approx((0.5 + 0) / 2)


def test_perfect_and_worst():
    subject = np.arange(30)
    search = search_of(subject[:15], subject[15:], subject)
    perfect, _ = identify(np.concatenate([np.eye(30), np.eye(30)]), search)
    assert set(perfect.values()) == {1.0}
    worst, ranks = identify(np.concatenate([np.eye(30), unit(1 - np.eye(30))]), search)
    assert (ranks == 30).all() and set(worst.values()) == {0.0}


@pytest.mark.parametrize("u", [np.full((60, 7), 7**-0.5), np.zeros((60, 7))])
def test_a_collapsed_embedding_finds_nobody(u):
    subject = np.arange(30)
    metrics, ranks = identify(u, search_of(subject[:15], subject[15:], subject))
    assert (ranks == 30).all() and set(metrics.values()) == {0.0}


def test_probes_of_one_gallery_only_have_no_average():
    metrics, _ = identify(np.eye(3)[[0, 1, 0]], search_of([1], [2], [1]))
    assert metrics["rank1"] == 1 and not [name for name in metrics if "galleries" in name]
