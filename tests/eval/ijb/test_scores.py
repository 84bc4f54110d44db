"""Scores of pairs against a float64 loop, and the table they give against sklearn's on that loop's scores."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from eval.ijb import scores as scores_module
from eval.ijb.scores import pair_scores
from eval.ijb.target import FARS, verification


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def loop(u, first, second):
    return np.array([np.sum(u[a] * u[b]) for a, b in zip(first, second, strict=True)])


def table(scores, issame):
    """InsightFace's: the point of sklearn's curve that is nearest to each FAR, from the end."""
    far, tar, _ = roc_curve(issame, scores)
    far, tar = np.flipud(far), np.flipud(tar)
    return [tar[min(zip(abs(far - x), range(len(far)), strict=True))[1]] for x in FARS.values()]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("sparse", [0, 16, 10**9])  # blocks always, as they come, never
def test_equal_to_a_loop(monkeypatch, ordered, sparse):
    monkeypatch.setattr(scores_module, "SPARSE", sparse)
    monkeypatch.setattr(scores_module, "ROWS", 8)
    monkeypatch.setattr(scores_module, "GATHERED", 50)
    generator = np.random.default_rng(1)
    u = unit(generator.normal(size=(70, 20)))
    first, second = generator.integers(0, 60, 700), generator.integers(10, 70, 700)
    if ordered:
        first = np.sort(first)
    assert np.allclose(pair_scores(u, first, second), loop(u, first, second), rtol=0, atol=1e-15)


def people(seed, templates=1500, subjects=120, dimension=24):
    """Templates of subjects, some of them equal to the last bit, as where two hold the same images; random pairs."""
    generator = np.random.default_rng(seed)
    subject = generator.integers(0, subjects, templates)
    centres = generator.normal(size=(subjects, dimension))
    u = unit(
        centres[subject] + generator.uniform(0.5, 3, (templates, 1)) * generator.normal(size=(templates, dimension))
    )
    twins = generator.integers(0, templates, (60, 2))
    u[twins[:, 0]] = u[twins[:, 1]]
    gallery, probe = np.arange(300), np.arange(300, templates)
    first, second = np.repeat(gallery, len(probe)), np.tile(probe, len(gallery))
    kept = generator.permutation(len(first))[:60_000]
    first, second = first[kept], second[kept]
    return u, first, second, subject[first] == subject[second]


@pytest.mark.parametrize("seed", range(8))
def test_the_table_is_that_of_float64_loops(seed):
    u, first, second, issame = people(seed)
    metrics = verification(pair_scores(u, first, second), issame).metrics
    exact = np.sum(u[first] * u[second], axis=1)
    assert [metrics[f"tar@far={far}"] for far in FARS] == table(exact, issame)
    for name, far in FARS.items():
        impostor = np.sort(exact[~issame])[::-1]
        allowed = max(k for k in range(len(impostor)) if k / len(impostor) <= far)
        assert metrics[f"strict_tar@far={name}"] == np.mean(exact[issame] > impostor[allowed])


def test_equal_templates_tie():
    """A product may round equal rows in different ways, by their place in it."""
    generator = np.random.default_rng(0)
    u = unit(generator.normal(size=(400, 67)))
    u[200:] = u[:200]
    first, second = np.meshgrid(np.arange(400), np.arange(400), indexing="ij")
    scores = pair_scores(u, first.ravel(), second.ravel()).reshape(400, 400)
    assert np.array_equal(scores[:200], scores[200:]) and np.array_equal(scores[:, :200], scores[:, 200:])


def test_perfect_and_worst():
    generator = np.random.default_rng(0)
    subject = np.arange(40) % 10
    u = unit(np.eye(10)[subject] + 0.01 * generator.normal(size=(40, 10)))
    first, second = np.triu_indices(40, 1)
    issame = subject[first] == subject[second]
    scores = pair_scores(u, first, second)
    assert set(verification(scores, issame).metrics.values()) == {1.0}
    worst = verification(-scores, issame).metrics
    assert all(worst[f"strict_tar@far={far}"] == 0 for far in FARS)


@pytest.mark.parametrize("u", [np.full((60, 5), 5**-0.5), np.zeros((60, 5))])
def test_a_collapsed_embedding_accepts_nobody(u):
    first, second = np.triu_indices(60, 1)
    result = verification(pair_scores(u, first, second), first % 7 == second % 7)
    assert all(result.metrics[f"strict_tar@far={far}"] == 0 for far in FARS)
    assert all(result.metrics[f"tar@far={far}"] == 0 for far in FARS)
