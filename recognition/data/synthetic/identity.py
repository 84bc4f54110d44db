"""Who a drawn face is: everything about a person that stays the same from photo to photo.

Lengths are in pixels of the 112 x 112 crop. The face's own frame has its origin at the centre of the head, x to
the image's right, y down, z towards the viewer; mirrored parts are given for x > 0. Colours are RGB, 0-255, float.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from utils.rng import Purpose, generator

SKIN = (
    (250, 217, 196),
    (246, 205, 174),
    (232, 184, 146),
    (205, 150, 108),
    (168, 113, 76),
    (138, 90, 62),
    (108, 72, 54),
)
HAIR = (
    (30, 25, 26),
    (58, 39, 28),
    (95, 62, 38),
    (142, 88, 44),
    (209, 166, 92),
    (176, 70, 36),
    (150, 146, 144),
    (222, 218, 210),
)
DARK_HAIR = (*HAIR[:3], *HAIR[:2], HAIR[6])
EYES = ((74, 46, 28), (46, 32, 26), (120, 84, 40), (86, 118, 62), (70, 118, 164), (110, 130, 142))
DARK_EYES = (*EYES[:3], EYES[0])
FRAMES = ((24, 24, 28), (96, 52, 30), (150, 28, 38), (40, 66, 130), (196, 158, 70), (186, 188, 194))
BEARDS = ("none", "stubble", "moustache", "goatee", "full")


class Hair(NamedTuple):
    """A hair style: `volume` pixels beyond the skull, ends at `length` below the centre (negative: nothing behind the
    neck), `curl` pixels of waves, and the front's lower edge from temple to temple, in pixels below the hairline."""

    volume: float
    length: float
    curl: float
    front: tuple[float, float, float, float, float]


BALD = Hair(0, -99, 0, (0, 0, 0, 0, 0))
STYLES = (
    BALD,
    Hair(1.5, -99, 0.0, (2, -2, -3, -2, 2)),  # cropped
    Hair(5, -99, 0.6, (4, 1, -1, -7, 2)),  # side parting
    Hair(7, -99, 2.2, (3, 2, 0, 2, 3)),  # short curls
    Hair(9, -99, 1.2, (1, -9, -8, -10, 0)),  # swept back, high
    Hair(5, 26, 0.4, (9, 10, 10, 10, 9)),  # bob with a fringe
    Hair(5, 62, 0.4, (8, -2, -9, -2, 8)),  # long, centre parting
    Hair(7, 62, 2.4, (10, 6, -5, -8, 3)),  # long waves, side parting
    Hair(13, 16, 2.6, (5, 0, -2, 0, 5)),  # afro
    Hair(3, -99, 0.3, (4, -4, -7, -6, 3)),  # tied back
    Hair(6, -99, 1.6, (2, 7, 9, 8, 3)),  # short fringe
)


@dataclass(frozen=True)
class Identity:
    """The traits of one person; see `person`."""

    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    lips: np.ndarray
    width: float  # half the head's width
    jaw: float  # jaw width / head width
    chin: float  # y of the chin
    chin_width: float  # chin width / head width
    hairline: float  # y of the hairline
    style: Hair
    ear: tuple[float, float]  # size, y
    eye_x: float
    eye_y: float
    eye: tuple[float, float, float, float]  # half width, opening / half width, tilt, radius of the iris
    lashes: float  # thickness of the upper lid's line
    brow: tuple[float, float, float, float, float]  # half length, thickness, height over the eye, tilt, arch
    nose: tuple[float, float, float, float]  # half width, y of the tip, length towards the viewer, roundness
    mouth: tuple[float, float, float, float, float]  # half width, y, upper lip, lower lip, curve at rest
    beard: str
    moles: tuple[tuple[float, float, float], ...]  # x, y, radius
    freckles: tuple[tuple[float, float], ...]
    blush: float
    glasses: (
        tuple[float, float, float, float, np.ndarray] | None
    )  # half width, half height, roundness, thickness, colour


def mix(a: np.ndarray, b: ArrayLike, share: float) -> np.ndarray:
    """The colour that is `share` of the way from `a` to `b`."""
    return a + (np.asarray(b, dtype=np.float64) - a) * share


@lru_cache(maxsize=1024)
def person(seed: int, number: int) -> Identity:
    """Person `number` of the world `seed`: a pure function of both."""
    rng = generator(seed, 0, number, Purpose.SYNTHETIC)

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    def colour(palette: tuple[tuple[int, int, int], ...], spread: float) -> np.ndarray:
        return np.clip(np.array(palette[rng.integers(len(palette))]) + rng.normal(0, spread, 3), 12, 250)

    skin = colour(SKIN, 4)
    fair = skin[0] > 190
    hair, iris = colour(HAIR if fair else DARK_HAIR, 5), colour(EYES if fair else DARK_EYES, 6)
    number_of_style = int(rng.integers(len(STYLES)))
    style, flip = STYLES[number_of_style], rng.random() < 0.5
    short = style.length < 0 and number_of_style != 9
    beard = BEARDS[rng.integers(1, len(BEARDS))] if short and rng.random() < 0.55 else "none"
    made_up = beard == "none" and rng.random() < 0.45
    lips = mix(skin, colour(((190, 40, 60), (205, 80, 90), (150, 40, 70)), 6), between(0.5, 0.9) if made_up else 0.3)
    width, eye_y = between(36.5, 45), between(-16.5, -12.5)
    eye_half = between(5.2, 8.4)
    moles = tuple((between(-25, 25), between(-4, 32), between(1.1, 2.0)) for _ in range(rng.choice((0, 0, 0, 1, 1, 2))))
    freckled = rng.random() < 0.18
    wears_glasses = rng.random() < 0.3
    return Identity(
        skin=skin,
        hair=hair,
        iris=iris,
        lips=lips,
        width=width,
        jaw=between(0.66, 0.94),
        chin=between(39, 51),
        chin_width=between(0.2, 0.5),
        hairline=between(-44, -33),
        style=style._replace(
            volume=style.volume * between(0.8, 1.3),
            curl=style.curl * between(0.7, 1.3),
            front=style.front[::-1] if flip else style.front,
        ),
        ear=(between(6, 10.5), between(-12, -4)),
        eye_x=between(14.8, 19.2),
        eye_y=eye_y,
        eye=(eye_half, between(0.42, 0.78), between(-0.2, 0.24), between(2.6, 3.9)),
        lashes=between(1.3, 2.2) if made_up else between(0.7, 1.2),
        brow=(between(6.5, 10.5), between(1.2, 4.4), between(7, 12), between(-0.26, 0.26), between(0.5, 4.0)),
        nose=(between(4.2, 9.2), between(2.5, 10.5), between(7, 14), between(0, 1)),
        mouth=(between(9, 16), between(21.5, 28.5), between(1.0, 3.6), between(1.8, 5.0), between(-1.6, 2.6)),
        beard=beard,
        moles=moles,
        freckles=tuple(map(tuple, rng.normal((0, 3), (13, 4), (26, 2)).tolist())) if freckled else (),
        blush=between(0.05, 0.2) if rng.random() < 0.5 else 0.0,
        glasses=(between(10.5, 13.5), between(7.5, 11.5), between(2, 5), between(1.0, 2.6), colour(FRAMES, 4))
        if wears_glasses
        else None,
    )
