"""The parts inside a drawn face: eyes, brows, nose, mouth, moles, glasses; and what may hide them."""

import numpy as np

from recognition.data.synthetic.head import SHADE
from recognition.data.synthetic.identity import mix
from recognition.data.synthetic.sketch import Sketch, ellipse, mirrored, smooth

DARK, WHITE = np.array([26.0, 20, 22]), np.array([248.0, 246, 242])
ACROSS = np.linspace(-1, 1, 13)
ARC = 1 - ACROSS**2


def eyes(s: Sketch) -> None:
    """White, iris and pupil, cut off by the lids; lashes and crease."""
    who, photo = s.who, s.photo
    half, opening, tilt, radius = who.eye
    up, down = half * opening * photo.lids, 0.55 * half * opening * min(photo.lids, 1)
    for side in (-1, 1):

        def put(x: np.ndarray, y: np.ndarray, side: int = side) -> np.ndarray:
            return np.stack([side * (who.eye_x + x), who.eye_y + y - tilt * x], axis=1)

        upper, lower = put(half * ACROSS, -up * ARC), put(half * ACROSS, down * ARC)
        s.fill(np.vstack([upper, lower[::-1]]), WHITE)
        gaze = np.array([side * 0.25 * half * photo.gaze[0], 0.2 * radius * photo.gaze[1] - 0.1 * up])
        for size, colour in ((radius, who.iris), (0.48 * radius, DARK)):
            x, y = (ellipse(0, 0, size, size) + gaze).T
            room = 1 - np.clip(x / half, -1, 1) ** 2
            s.fill(put(x, np.clip(y, -up * room, down * room)), colour)
        if photo.lids > 0.5:
            x, y = (ellipse(side * -0.3 * radius, -0.35 * radius, 0.9, 0.9) + gaze).T
            s.fill(put(x, y), WHITE)
        s.line(lower, mix(who.skin, SHADE, 0.45), 0.5)
        s.line(put(half * ACROSS, -up * ARC - 2.2 * np.sqrt(ARC)), mix(who.skin, SHADE, 0.35), 0.6)
        s.line(upper, DARK, who.lashes)


def brows(s: Sketch) -> None:
    """Both brows, thin towards the ears."""
    who = s.who
    half, thick, height, tilt, arch = who.brow
    colour = mix(mix(who.hair, DARK, 0.35), who.skin, 0.12)
    for side in (-1, 1):
        x = half * ACROSS
        y = who.eye_y - height - s.photo.brows - tilt * x - arch * ARC
        taper = 0.5 * thick * np.clip(1.1 - 0.5 * ACROSS, 0.5, 1.2)
        upper, lower = np.stack([x, y - taper], 1), np.stack([x, y + taper], 1)
        shape = np.vstack([upper, lower[::-1]]) + (who.eye_x + 0.5, 0)
        s.fill(shape * (side, 1), colour)


def nose(s: Sketch) -> None:
    """Bridge, wings and nostrils, in front of the face: it moves most when the head turns."""
    who = s.who
    half, tip, length, roundness = who.nose
    shade, bright = mix(who.skin, SHADE, 0.42), mix(who.skin, WHITE, 0.3)
    side = 1 if s.photo.yaw < 0 else -1  # the bridge is seen on the side that is turned away
    x, y = side * half * np.array([0.3, 0.35, 0.75]), np.array([who.eye_y + 1, 0.5 * (who.eye_y + tip), tip - 2])
    ridge = smooth(np.stack([x, y], axis=1), closed=False)
    lift = np.linspace(0.2, 0.7, len(ridge)) * length
    s.line(ridge, mix(who.skin, SHADE, 0.22), 1.3, lift)
    x = half * np.array([-1, -1.02, -0.5, 0, 0.5, 1.02, 1])
    y = tip + np.array([-2.5, 1, 1.5, 1.5 + 2.5 * roundness, 1.5, 1, -2.5])
    wings = smooth(np.stack([x, y], axis=1), closed=False)
    s.line(wings, shade, 1.1, lift=0.75 * length)
    for nostril in (-0.48, 0.48):
        s.fill(ellipse(nostril * half, tip + 1.0, 0.22 * half, 0.9), mix(who.skin, SHADE, 0.75), lift=0.8 * length)
    s.fill(ellipse(0, tip - 2.5, 0.24 * half, 1.6 + roundness), bright, lift=length)


def mouth(s: Sketch) -> None:
    """Lips around a line that bends with the smile; teeth and dark when open."""
    who, photo = s.who, s.photo
    half, y, upper, lower, curve = who.mouth
    half = half * (1 + 0.14 * photo.smile)
    x = half * ACROSS
    middle = y - (curve + 3.6 * photo.smile) * (ACROSS**2 - 0.4)
    bow = ARC * (1 - 0.35 * np.exp(-((ACROSS / 0.22) ** 2)))
    gape = photo.gape * ARC
    top, bottom = middle - upper * bow - 0.2 * gape, middle + lower * ARC + 0.8 * gape
    s.fill(np.vstack([np.stack([x, top], 1), np.stack([x, bottom], 1)[::-1]]), who.lips)
    if photo.gape:
        inside = np.stack([x, middle - 0.2 * gape], 1), np.stack([x, middle + 0.8 * gape], 1)
        s.fill(np.vstack([inside[0], inside[1][::-1]]), np.array([72.0, 20, 28]))
        teeth = np.stack([x, middle - 0.2 * gape + np.minimum(0.4 * gape, 2.2)], 1)
        s.fill(np.vstack([inside[0], teeth[::-1]]) * (0.9, 1), WHITE)
    else:
        s.line(np.stack([x, middle], 1), mix(who.lips, DARK, 0.6), 0.8)
    below = bottom.max() + 2.5
    s.line(np.array([(-0.4 * half, below), (0.4 * half, below)]), mix(who.skin, SHADE, 0.2), 0.7)


def moles(s: Sketch) -> None:
    """Dark spots."""
    for x, y, radius in s.who.moles:
        s.fill(ellipse(x, y, radius, radius), mix(s.who.skin, (50, 25, 20), 0.8))


def glasses(s: Sketch) -> None:
    """The identity's own frames."""
    assert s.who.glasses is not None  # only those who own a pair wear one
    half, tall, roundness, thick, colour = s.who.glasses
    for side in (-1, 1):
        s.line(_lens(s, side, half, tall, roundness), colour, thick, lift=7, closed=True)
        hinge = s.on(np.array([(side * (s.who.eye_x + half), s.who.eye_y - 1)]), 7)
        ear = s.around(np.array([(side * (s.who.width + 1), s.who.eye_y - 1)]), -4.0)
        s.canvas.line(np.vstack([hinge, ear]), colour, thick)
    gap = s.who.eye_x - half
    s.line(np.array([(-gap, s.who.eye_y), (0, s.who.eye_y - 1.5), (gap, s.who.eye_y)]), colour, thick, lift=9)


def _lens(s: Sketch, side: int, half: float, tall: float, roundness: float) -> np.ndarray:
    angle = np.arange(32) * (np.pi / 16)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    square = np.sign(circle) * np.abs(circle) ** (2 / roundness)
    return square * (half, tall) + (side * s.who.eye_x, s.who.eye_y + 1.5)


def occlude(s: Sketch, rng: np.random.Generator) -> None:
    """Sunglasses, a mask, a hand, or something in front of the camera."""
    colour, kind = rng.uniform(20, 235, 3), s.photo.occlusion
    if kind == "sunglasses":
        dark = mix(DARK, colour, 0.12)
        for side in (-1, 1):
            s.fill(_lens(s, side, 14, 10, 2.6), dark, lift=7)
        arms = np.array([(x * s.who.width, s.who.eye_y - 3) for x in (-1, 0, 1)])
        s.line(arms, dark, 2.2, lift=7)
    elif kind == "mask":
        w, y, chin = s.who.width, s.who.nose[1], s.who.chin
        shape = mirrored([(0, y - 6), (0.88 * w, y), (0.74 * w, 0.7 * chin), (0, chin + 4)])
        s.fill(smooth(shape), mix(colour, WHITE, 0.5), lift=2)
    elif kind == "hand":
        base, lean = rng.uniform(-26, 26), rng.uniform(-0.5, 0.5)
        for finger in range(4):
            x = base + 7.5 * (finger - 1.5)
            tip = rng.uniform(8, 18) + 3 * abs(finger - 1.5)
            bone = np.array([(x + lean * 50, 75), (x, tip)])
            s.line(bone, mix(s.who.skin, SHADE, 0.4), 9, lift=10)
            s.line(bone, mix(s.who.skin, SHADE, 0.06), 7.5, lift=10)
    elif kind == "bar":
        angle, offset, wide = rng.uniform(0, np.pi), rng.uniform(-30, 30), rng.uniform(8, 16)
        along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        s.canvas.line(56 + offset * across + np.array([[-90], [90]]) * along, colour, wide)
