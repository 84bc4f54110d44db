"""Templates from image features: frames of one video are averaged, media are added, the sum is brought to unit length.

InsightFace's `image2template_feature`. Where it searches all images once per template, here two sparse products add
the same float32 numbers in the same order, so that the templates are equal to the last bit.

Shapes: n images, m media of templates, T templates, D dimension.
"""

import numpy as np
from scipy.sparse import csr_matrix

TEMPLATES = 1024  # pooled at a time: their media are some MB


def pool(
    h: np.ndarray,
    score: np.ndarray,
    template: np.ndarray,
    media: np.ndarray,
    use_norm_score: bool = True,
    use_detector_score: bool = True,
) -> np.ndarray:
    """Unit features of templates.

    Args:
        h: (n, D) float32, finite, not normalised.
        score: (n,) float32 detector scores.
        template: (n,) rows 0 ... T - 1, each at least once.
        media: (n,) numbers; images of one template and media are frames of one video.
        use_norm_score: False: each image's feature is brought to unit length first (InsightFace's N0).
        use_detector_score: weigh each image by its detector score (D1).

    Returns:
        (T, D) float64 of unit length; a template whose sum is zero stays zero.

    Raises:
        ValueError: another shape, or sums that are not finite.
    """
    if h.ndim != 2 or len(h) != len(template):
        raise ValueError(f"features of shape {h.shape} for {len(template)} images: expected ({len(template)}, D)")
    weight = np.ones(len(h), np.float32)
    if not use_norm_score:
        weight /= np.maximum(_norms(h), np.finfo(np.float32).tiny)
    if use_detector_score:
        weight *= score
    pooled = _template_sums(h, weight, template, media)
    if not np.isfinite(pooled).all():
        raise ValueError("features or detector scores that are not finite, or so large that their sums are not")
    norm = _norms(pooled)
    norm[norm == 0] = 1
    pooled /= norm[:, None]
    return pooled


def _template_sums(h: np.ndarray, weight: np.ndarray, template: np.ndarray, media: np.ndarray) -> np.ndarray:
    """(T, D) float64: the sum of each template's media, each of them the mean of its weighted frames."""
    image, frames, media_start = _order(template, media)
    pooled = np.empty((len(media_start) - 1, h.shape[1]))
    for first in range(0, len(pooled), TEMPLATES):
        part = media_start[first : first + TEMPLATES + 1]
        of_media = _sums(image, weight, frames[part[0] : part[-1] + 1], h)
        of_media /= np.diff(frames[part[0] : part[-1] + 1]).astype(np.float32)[:, None]
        ones = np.ones(len(of_media), np.float32)
        pooled[first : first + TEMPLATES] = _sums(np.arange(len(ones)), ones, part - part[0], of_media)
    return pooled


def _norms(h: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("nd,nd->n", h, h))


def _order(template: np.ndarray, media: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n,) images by template, then media, then as listed; (m + 1,) where each media starts among them; (T + 1,) where
    each template starts among the media."""
    image = np.lexsort((media, template))
    template, media = template[image], media[image]
    new_template = np.append(True, template[1:] != template[:-1])
    frames = np.flatnonzero(new_template | np.append(True, media[1:] != media[:-1]))
    media_start = np.flatnonzero(new_template[frames])
    return image, np.append(frames, len(image)), np.append(media_start, len(frames))


def _sums(image: np.ndarray, weight: np.ndarray, start: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Row i: the weighted sum of `h[image[start[i] : start[i + 1]]]`, added one after the other."""
    column = image[start[0] : start[-1]]
    return csr_matrix((weight[column], column, start - start[0]), shape=(len(start) - 1, len(h))) @ h
