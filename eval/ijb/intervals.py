"""How sure IJB's rates of 1:1 are: bootstrap over subjects, which the lists of 1:N name.

Shapes: T templates, p pairs.
"""

import numpy as np

from eval.confidence import tar_replicates
from eval.ijb.meta import Pairs
from eval.ijb.subjects import SearchLists

INTERVAL_FARS = ("1e-6", "1e-5", "1e-4", "1e-3")  # above, a draw would look at too many impostors


def subject_numbers(search: SearchLists | None, templates: int) -> np.ndarray | None:
    """(T,) 0, 1 ... by subject; None where the lists of 1:N are missing or leave templates out."""
    if search is None:
        return None
    subject = np.full(templates, -1, np.int64)
    for part in (*search.galleries, search.probes):
        subject[part.template] = part.subject
    if subject.min() < 0:
        return None
    return np.unique(subject, return_inverse=True)[1].ravel()


def verification_replicates(scores: np.ndarray, pairs: Pairs, subject: np.ndarray | None) -> dict[str, np.ndarray]:
    """`strict_tar@far=...` -> (draws,) replicates; none where subjects are unknown or contradict the pairs' labels.

    Args:
        scores: (p,) of the pairs.
        subject: (T,) as `subject_numbers`.
    """
    if subject is None or not np.array_equal(subject[pairs.first] == subject[pairs.second], pairs.issame):
        return {}
    sides = subject[pairs.first], subject[pairs.second]
    replicates = tar_replicates(scores, pairs.issame, *sides, [float(far) for far in INTERVAL_FARS])
    return {f"strict_tar@far={far}": column for far, column in zip(INTERVAL_FARS, replicates.T, strict=True)}
