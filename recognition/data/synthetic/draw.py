"""Cartoon faces drawn by code: `draw(seed, identity, photo)` is one photo of one person."""

import numpy as np

from recognition.data.synthetic import features, head
from recognition.data.synthetic.identity import person
from recognition.data.synthetic.photo import expose, light, take
from recognition.data.synthetic.sketch import SIZE, Sketch, ellipse
from utils.rng import Purpose, generator


def draw(seed: int, identity: int, photo: int, low_quality: bool | None = None) -> np.ndarray:
    """One photo of one person, aligned as ArcFace's crops are.

    A pure function of its arguments. Who it is depends on (seed, identity) alone; pose, light, expression, occlusion,
    background and camera on the photo too.

    Args:
        seed: the world.
        identity: the person, >= 0.
        photo: the photo of this person, >= 0.
        low_quality: whether it is blurred, small and noisy; None lets the photo decide (about 22 % are).
            Nothing else changes with it.

    Returns:
        uint8 RGB (112, 112, 3).
    """
    rng = generator(seed, 1 + photo, identity, Purpose.SYNTHETIC)
    taken = take(rng, low_quality)
    wall, other, shirt = rng.uniform(40, 215, (3, 1)) + rng.uniform(-40, 40, (3, 3))
    sketch = Sketch(person(seed, identity), taken, wall)
    for x, y, rx, ry in rng.uniform((0, 0, 8, 8), (SIZE, SIZE, 40, 60), (3, 4)):
        sketch.canvas.fill(ellipse(x, y, rx, ry), other)
    _face(sketch, shirt)
    if taken.occlusion:
        features.occlude(sketch, rng)
    return expose(light(sketch.canvas.image(), rng), taken.low_quality, rng)


def _face(sketch: Sketch, shirt: np.ndarray) -> None:
    head.hair_behind(sketch)
    head.shoulders(sketch, shirt)
    head.ears(sketch)
    head.head(sketch)
    head.beard(sketch)
    features.mouth(sketch)
    features.eyes(sketch)
    features.nose(sketch)
    features.moles(sketch)
    head.hair_front(sketch)
    features.brows(sketch)
    if sketch.who.glasses and sketch.photo.glasses:
        features.glasses(sketch)
