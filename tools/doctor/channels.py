"""Are the faces stored as RGB or with red and blue exchanged: by their statistics, and on a sheet to look at.

Skin of every tone reflects more red than blue light, so that in the middle of an aligned face the mean of R is above
that of B in almost every photo; of exchanged channels in almost none.
"""

from pathlib import Path

import cv2
import numpy as np

from tools.doctor import scan
from tools.doctor.findings import Findings
from tools.doctor.readers import Spec, opened
from tools.doctor.scan import Scan
from utils.files import replacing
from utils.jpeg import decode

FEWEST = 50  # colour images for a verdict
RGB, BGR = 0.9, 0.1  # share of colour images with R > B from which, and up to which, it is given
_COLUMNS, _ROWS, _TILE, _GAP = 5, 5, 112, 4
_INK, _PAPER = (20, 20, 20), 255


def check_channels(found: Scan, findings: Findings) -> dict:
    """The verdict; `looks BGR` is a finding.

    Returns:
        {"verdict": "looks RGB" | "looks BGR" | "unclear", "colour_images", "red_above_blue": share of these in [0, 1],
        None without any}
    """
    colours = found.facts["colour"][found.facts["state"] == scan.IMAGE]
    red, blue = int((colours == scan.RED).sum()), int((colours == scan.BLUE).sum())
    share = red / (red + blue) if red + blue else None
    verdict = "unclear"
    if red + blue >= FEWEST:
        verdict = "looks RGB" if share >= RGB else "looks BGR" if share <= BGR else "unclear"
    if verdict == "looks BGR":
        said = f"red is above blue in the face's centre in only {share:.1%} of {red + blue} images: looks BGR"
        findings.add("channel order", "error", said)
    return {"verdict": verdict, "colour_images": red + blue, "red_above_blue": share}


def draw_sheet(path: Path, spec: Spec, found: Scan, order: dict) -> None:
    """A PNG of some faces, evenly spread over the set, as they are stored and with red and blue exchanged.

    Raises:
        OSError: it cannot be written.
    """
    images = np.flatnonzero((found.facts["state"] == scan.IMAGE) & (found.facts["colour"] != scan.GREY))
    chosen = images[np.unique(np.linspace(0, len(images) - 1, min(len(images), _COLUMNS * _ROWS)).astype(int))]
    reader = opened(spec)
    faces = [cv2.resize(decode(reader[index].image), (_TILE, _TILE)) for index in chosen.tolist()]
    left, right = _panel("AS STORED", faces), _panel("R AND B SWAPPED", [face[..., ::-1] for face in faces])
    middle = np.full((left.shape[0], 40, 3), _PAPER, np.uint8)
    body = np.concatenate([middle, left, middle, right, middle], axis=1)
    share = order["red_above_blue"]
    head = _caption(f"Verdict: {order['verdict']}", body.shape[1], 1.6, 3)
    why = "no colour image" if share is None else f"R > B in {share:.1%} of {order['colour_images']} face centres"
    foot = _caption(f"{why}. Natural skin must be on the left.", body.shape[1], 1.0, 2)
    sheet = np.concatenate([head, body, foot])
    with replacing(path) as beside:
        beside.write_bytes(cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes())


def _panel(title: str, faces: list[np.ndarray]) -> np.ndarray:
    step = _TILE + _GAP
    grid = np.full((_ROWS * step, _COLUMNS * step, 3), _PAPER, np.uint8)
    for place, face in enumerate(faces):
        top, left = place // _COLUMNS * step, place % _COLUMNS * step
        grid[top : top + _TILE, left : left + _TILE] = face
    return np.concatenate([_caption(title, grid.shape[1], 1.3, 3), grid])


def _caption(text: str, width: int, scale: float, thickness: int) -> np.ndarray:
    """(H, width, 3) uint8: the text in the middle of a white band."""
    font = cv2.FONT_HERSHEY_SIMPLEX
    (wide, high), _ = cv2.getTextSize(text, font, scale, thickness)
    if wide > 0.96 * width:
        scale *= 0.96 * width / wide
        (wide, high), _ = cv2.getTextSize(text, font, scale, thickness)
    band = np.full((high + 36, width, 3), _PAPER, np.uint8)
    return cv2.putText(band, text, ((width - wide) // 2, high + 16), font, scale, _INK, thickness, cv2.LINE_AA)
