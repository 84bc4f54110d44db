"""Faces for benches: drawn, each with noise of its own, so that no two files are alike."""

from collections.abc import Iterator

import numpy as np

from recognition.data.synthetic.draw import draw
from utils import jpeg

IDENTITIES = 200


def noisy_jpegs(images: int) -> Iterator[bytes]:
    """So many JPEGs of 112 x 112 pixels, quality 90; image k shows identity k modulo `IDENTITIES`."""
    faces = [draw(1, identity, 0).astype(np.int16) for identity in range(IDENTITIES)]
    noise = np.random.default_rng(0)
    for index in range(images):
        face = faces[index % IDENTITIES] + noise.integers(-5, 6, faces[0].shape, np.int16)
        yield jpeg.encode(np.clip(face, 0, 255).astype(np.uint8), 90)
