"""What differs between two photos of the same drawn person: pose, expression, light, camera."""

from dataclasses import dataclass

import cv2
import numpy as np

from utils import jpeg

OCCLUSIONS = ("sunglasses", "mask", "hand", "bar")


@dataclass(frozen=True)
class Photo:
    """The circumstances of one photo."""

    yaw: float  # radians, positive = turned to the image's right
    pitch: float  # radians, positive = looking down
    crop: tuple[float, float, complex]  # shift x, shift y in pixels, scale-and-rotation
    smile: float  # -1 .. 1
    gape: float  # pixels the mouth is open
    lids: float  # 0 closed .. 1.15 wide open
    gaze: tuple[float, float]  # -1 .. 1
    brows: float  # pixels the brows are raised
    glasses: bool  # worn today, by those who own a pair
    occlusion: str | None
    low_quality: bool


def take(rng: np.random.Generator, low_quality: bool | None) -> Photo:
    """Draw the circumstances of a photo; `low_quality` None: 22 % are."""
    yaw, pitch = np.clip(rng.normal(0, (0.26, 0.13)), (-0.62, -0.3), (0.62, 0.3))
    poor, occluded, what = rng.random(3)
    gape = rng.uniform(1.5, 7) if rng.random() < 0.35 else 0.0
    turn = rng.normal(0, 0.035)
    return Photo(
        yaw=float(yaw),
        pitch=float(pitch),
        crop=(*rng.normal(0, 1.3, 2), rng.normal(1, 0.03) * complex(np.cos(turn), np.sin(turn))),
        smile=float(np.clip(rng.normal(0.25, 0.5), -0.9, 1)),
        gape=float(gape),
        lids=float(rng.uniform(0.65, 1.15)) if rng.random() > 0.05 else 0.06,
        gaze=tuple(rng.uniform(-1, 1, 2)),
        brows=float(rng.normal(0.3, 1.1)),
        glasses=bool(rng.random() < 0.85),
        occlusion=OCCLUSIONS[int(what * len(OCCLUSIONS))] if occluded < 0.12 else None,
        low_quality=bool(poor < 0.22) if low_quality is None else low_quality,
    )


def light(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light from one side, its colour and strength: uint8 (H,W,3) -> float32 (H,W,3), 0-255."""
    height, width = image.shape[:2]
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.38)
    x = np.linspace(-1, 1, width, dtype=np.float32) * np.float32(strength * np.cos(angle))
    y = np.linspace(-1, 1, height, dtype=np.float32) * np.float32(strength * np.sin(angle))
    warmth, tint = np.clip(rng.normal(0, (0.09, 0.035)), -0.18, 0.18)
    gain = rng.uniform(0.68, 1.04) * np.array([1 + warmth, 1 + tint, 1 - warmth])
    contrast = rng.uniform(0.75, 1.1)
    shade = np.multiply.outer(1 + np.add.outer(y, x), (gain * contrast).astype(np.float32))
    return np.clip(image * shade + np.float32(gain.mean() * 105 * (1 - contrast)), 0, 255)


def expose(image: np.ndarray, low_quality: bool, rng: np.random.Generator) -> np.ndarray:
    """The camera: blur, resolution, noise, JPEG. float32 (H,W,3), 0-255 -> uint8 (H,W,3)."""
    size = image.shape[1::-1]
    if low_quality:
        if rng.random() < 0.6:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 2.4))
        side = int(rng.uniform(14, 40))
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    noise = rng.uniform(3, 14) if low_quality else rng.uniform(0, 3)
    image = image + np.float32(noise) * rng.standard_normal(image.shape, dtype=np.float32)
    image = np.clip(image + 0.5, 0, 255).astype(np.uint8)
    quality = int(rng.integers(35, 80) if low_quality else rng.integers(60, 96))
    image = jpeg.decode(jpeg.encode(image, quality))
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC) if low_quality else image
