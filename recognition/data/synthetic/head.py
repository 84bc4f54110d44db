"""The parts of a drawn face that make its outline: shoulders, ears, head, beard, hair."""

import numpy as np

from recognition.data.synthetic.identity import mix
from recognition.data.synthetic.sketch import Sketch, ellipse, mirrored, smooth

TOP = -58.0  # y of the skull's top
SHADE, SHINE = np.array([70.0, 30, 30]), np.array([255.0, 240, 220])
JAW_DEPTH = 14.0  # how far the chin is in front of the head's centre


def outline(s: Sketch) -> np.ndarray:
    """The head's outline (n, 2) in the face's frame."""
    who = s.who
    w, jaw = who.width, who.width * who.jaw
    chin = who.chin + 0.45 * s.photo.gape
    right = [(0, TOP), (0.6 * w, 0.92 * TOP), (0.94 * w, 0.55 * TOP), (w, -8), (0.5 * (w + jaw) + 1, 14)]
    right += [
        (jaw, 0.55 * chin + 2),
        (0.5 * (jaw + who.chin_width * w), 0.86 * chin),
        (who.chin_width * w * 0.6, 0.985 * chin),
    ]
    return smooth(mirrored([*right, (0, chin)]))


def jaw_depth(points: np.ndarray) -> np.ndarray:
    """How far an outline's points are in front of the head's centre: the chin is, the skull is not."""
    return JAW_DEPTH * np.clip(points[:, 1] / 45, -0.3, 1)


def shoulders(s: Sketch, shirt: np.ndarray) -> None:
    """Neck and shirt."""
    half = 0.62 * s.who.width
    neck = np.array([(-half, 10), (half, 10), (half * 1.1, 80), (-half * 1.1, 80)])
    s.canvas.fill(s.around(neck), mix(s.who.skin, SHADE, 0.3))
    collar = smooth([(-75, 66), (-half, 54), (0, 66), (half, 54), (75, 66), (70, 120), (-70, 120)])
    s.canvas.fill(s.around(collar), shirt)


def ears(s: Sketch) -> None:
    """Both ears; the one that the head turns away from hides behind it."""
    size, y = s.who.ear
    for side in (-1, 1):
        x = side * (s.who.width + 0.25 * size)
        depth = -16.0
        s.canvas.fill(s.around(ellipse(x, y, 0.52 * size, size), depth), mix(s.who.skin, SHADE, 0.08))
        s.canvas.fill(s.around(ellipse(x, y, 0.28 * size, 0.65 * size), depth), mix(s.who.skin, SHADE, 0.25))


def head(s: Sketch) -> None:
    """The face, its cheeks and freckles."""
    who = s.who
    edge = outline(s)
    placed = s.around(edge, jaw_depth(edge))
    s.canvas.fill(placed, who.skin)
    s.canvas.line(placed, mix(who.skin, SHADE, 0.35), 0.7, closed=True)
    if who.blush:
        for side in (-1, 1):
            s.fill(ellipse(side * (who.eye_x + 5), 10, 8, 5), mix(who.skin, (225, 70, 80), who.blush))
    for x, y in who.freckles:
        s.fill(ellipse(x, y, 0.8, 0.8), mix(who.skin, (120, 55, 25), 0.5))


def beard(s: Sketch) -> None:
    """Everything from stubble to a full beard; the mouth is drawn over it."""
    who, kind = s.who, s.who.beard
    mouth = who.mouth[1]
    if kind in ("stubble", "full"):
        _whiskers(s, grown=kind == "full")
    if kind == "goatee":
        chin = who.chin + 0.45 * s.photo.gape
        shape = mirrored([(0, mouth + 5), (8, mouth + 6), (9, chin - 4), (0, chin + 2)])
        s.fill(smooth(shape), mix(who.skin, who.hair, 0.9))
    if kind in ("moustache", "goatee"):
        half, top = who.mouth[0], mouth - who.mouth[2]
        right = [(0, top - 6), (0.6 * half, top - 5), (1.1 * half, top + 2), (0.5 * half, top - 1), (0, top - 1.5)]
        s.fill(smooth(mirrored(right)), who.hair)


def _whiskers(s: Sketch, grown: bool) -> None:
    """Jaw and lower cheeks, from ear to ear."""
    who, mouth = s.who, s.who.mouth[1]
    edge = outline(s)
    low = edge[edge[:, 1] > -6]
    low = low[np.argsort(-np.arctan2(low[:, 0], low[:, 1] + 8))]  # from one temple over the chin to the other
    w, y = who.width, mouth - who.mouth[2] - 5.5
    cheek = [(0.86 * w, 6), (0.66 * w, 0.75 * y), (0.45 * w, y - 1)]
    inner = np.array([low[-1], *[(-x, y) for x, y in cheek], (0, y), *cheek[::-1], low[0]])
    depth = np.array([*(0.55, 0.8, 0.9), 1, *(0.9, 0.8, 0.55)]) * 0.8 * s.depth_at(0, mouth)
    depth = np.concatenate([jaw_depth(low), jaw_depth(low[-1:]), depth, jaw_depth(low[:1])])
    shape = np.vstack([low * (1, 1.05 if grown else 1.0), inner])
    s.canvas.fill(s.around(shape, depth), mix(who.skin, who.hair, 0.92 if grown else 0.28))


def hair_behind(s: Sketch) -> None:
    """What hangs down behind the neck."""
    style = s.who.style
    if style.length < 0:
        return
    w, out = s.who.width, style.volume
    wide = w + out + 0.05 * style.length
    right = [(0, TOP - out), (0.66 * w + 0.7 * out, 0.9 * TOP - 0.7 * out), (w + out, 0.45 * TOP), (wide, 8)]
    right += [(wide + 0.5, 0.8 * style.length), (0.8 * w, style.length + 3)]
    shape = _waved(smooth(mirrored([*right, (0, style.length)])), style.curl)
    s.canvas.fill(s.around(shape, -10.0), mix(s.who.hair, (0, 0, 0), 0.25))


def hair_front(s: Sketch) -> None:
    """The cap of hair and its lower edge on the forehead."""
    who, style = s.who, s.who.style
    if style.volume == 0:
        return
    w, out = who.width, style.volume
    temple = -12.0 if style.length < 20 else 14.0
    right = [
        (0, TOP - out),
        (0.62 * w + 0.5 * out, 0.92 * TOP - 0.8 * out),
        (0.96 * w + 0.9 * out, 0.55 * TOP - 0.2 * out),
        (w + 0.6 * out, temple),
    ]
    over = mirrored(right)
    over = np.vstack([over[4:], over[:4]])  # from the left temple over the top to the right one
    over = _waved(smooth(over, closed=False), style.curl)
    x = np.array([0.93, 0.72, 0.36, 0, -0.36, -0.72, -0.93]) * w
    y = [temple, *(who.hairline + np.array(style.front[::-1])), temple]
    edge = s.on(smooth(np.stack([x, y], axis=1), closed=False))
    s.canvas.fill(np.vstack([s.around(over), edge]), who.hair)
    bright = mix(who.hair, SHINE, 0.16)
    for lift, start, stop in ((4, -0.75, -0.15), (8, -0.6, -0.3)):
        angle = np.linspace(start, stop, 7) * np.pi
        radius = np.array([0.78 * w, 0.5 * (-TOP) + lift])
        arc = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius + (0, -22)
        s.canvas.line(s.around(arc), bright, 1.2)


def _waved(points: np.ndarray, amplitude: float) -> np.ndarray:
    """`points` moved in and out, `amplitude` pixels, as curls do."""
    length = np.cumsum(np.linalg.norm(np.diff(points, axis=0, prepend=points[:1]), axis=1))
    centre = np.array([0.0, -10])
    away = points - centre
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    return points + away * (amplitude * np.sin(length * 0.8))[:, None]
