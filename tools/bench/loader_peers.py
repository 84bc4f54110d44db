"""The peers' ways from records to a batch, one image at a time, for `python -m tools.bench loader`.

Methods, not copies: what InsightFace's `MXFaceDataset` and the paper's two-view data set do with each image, in the
libraries they do it with, and a DataLoader's collation at the end. torchvision is not installed here; its transforms
are written out as the PIL calls and tensor operations they make.
"""

import io
import math

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch.utils.data import default_collate

from recognition.data.augment import Parameters

FILTERS = np.array([getattr(Image.Resampling, name) for name in ("NEAREST", "BOX", "BILINEAR", "BICUBIC", "LANCZOS")])


class Peer:
    """mxnet reads and decodes. Needs mxnet.

    Args:
        rec, idx: the record file.
        parameters: of the second view; None for InsightFace's one view.
    """

    def __init__(self, rec: str, idx: str, parameters: Parameters | None = None):
        np.bool = np.bool_  # mxnet 1.9.1 uses the name that numpy has removed
        import mxnet

        self.mxnet, self.p = mxnet, parameters
        self.reader = mxnet.recordio.MXIndexedRecordIO(idx, rec, "r")

    def __call__(self, keys: np.ndarray) -> list[torch.Tensor]:
        """Float32 images (p, 3, S, S), or (p, 2, 3, S, S), and int64 labels (p,)."""
        return default_collate([self._sample(key) for key in keys.tolist()])

    def _sample(self, key: int) -> tuple[torch.Tensor, torch.Tensor]:
        header, encoded = self.mxnet.recordio.unpack(self.reader.read_idx(key))
        label = torch.tensor(header.label, dtype=torch.long)
        pixels = self.mxnet.image.imdecode(encoded).asnumpy()
        if self.p is None:
            return _tensor(_flip(Image.fromarray(pixels))), label
        image = Image.fromarray(pixels[:, :, ::-1])  # the authors' BGR
        return torch.stack([_tensor(_flip(self._augmented(image))), _tensor(_flip(image))]), label

    def _augmented(self, image: Image.Image) -> Image.Image:
        """Shrunk, compressed and enlarged in PIL, then cropped, jittered and turned with some probability."""
        p, size = self.p, image.size
        side, file = int(_uniform(*p.downsample_ratio) * size[0]), io.BytesIO()
        image.resize((side, side), np.random.choice(FILTERS)).save(file, "JPEG", quality=p.jpeg_quality)
        image = Image.open(file).resize(size, np.random.choice(FILTERS))
        if _happens(p.crop_probability):
            image = image.crop(_box(size, p)).resize(size, Image.Resampling.BILINEAR)
        if _happens(p.jitter_probability):
            enhancers = [
                (ImageEnhance.Brightness, p.jitter_brightness),
                (ImageEnhance.Contrast, p.jitter_contrast),
                (ImageEnhance.Color, p.jitter_saturation),
            ]
            for place in torch.randperm(3).tolist():
                enhancer, strength = enhancers[place]
                image = enhancer(image).enhance(_uniform(1 - strength, 1 + strength))
        if _happens(p.rotation_probability):
            image = image.rotate(_uniform(-p.rotation_degrees, p.rotation_degrees))
        return image


def _uniform(low: float, high: float) -> float:
    return torch.empty(1).uniform_(low, high).item()


def _happens(probability: float) -> bool:
    return bool(torch.rand(1) < probability)


def _flip(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if _happens(0.5) else image


def _box(size: tuple[int, int], p: Parameters) -> tuple[int, int, int, int]:
    """RandomResizedCrop's box; the few that do not fit are cut, not drawn again."""
    area = size[0] * size[1] * _uniform(*p.crop_area)
    aspect = math.exp(_uniform(math.log(p.crop_aspect[0]), math.log(p.crop_aspect[1])))
    width, height = min(size[0], round(math.sqrt(area * aspect))), min(size[1], round(math.sqrt(area / aspect)))
    left = int(torch.randint(0, size[0] - width + 1, (1,)))
    top = int(torch.randint(0, size[1] - height + 1, (1,)))
    return left, top, left + width, top + height


def _tensor(image: Image.Image) -> torch.Tensor:
    """ToTensor and Normalize(mean 0.5, std 0.5)."""
    pixels = torch.from_numpy(np.array(image, np.uint8, copy=True))
    pixels = pixels.permute(2, 0, 1).contiguous().to(torch.float32).div(255).clone()
    mean, std = (torch.as_tensor([0.5, 0.5, 0.5], dtype=torch.float32) for _ in range(2))
    if (std == 0).any():
        raise ValueError("a standard deviation of 0")
    return pixels.sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1))
