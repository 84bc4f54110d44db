"""Images that hold their number, and an embedding that reads it: to see which features belong to which image."""

import threading
import time

import numpy as np
import torch


class Numbered:
    """Image k holds k in its first pixel; the first chunk takes longest to read."""

    def __init__(self, count, fails=None):
        self.count, self.fails, self.threads = count, fails, set()

    def __len__(self):
        return self.count

    def read(self, start, end):
        self.threads.add(threading.get_ident())
        time.sleep(0.02 if start == 0 else 0)
        if self.fails is not None and start <= self.fails < end:
            raise ValueError(f"image {self.fails} cannot be used")
        images = np.zeros((end - start, 112, 112, 3), np.uint8)
        images[:, 0, 0, 0] = np.arange(start, end) // 256
        images[:, 0, 0, 1] = np.arange(start, end) % 256
        return images


def number(images):
    """The number in the first pixel, as the feature (k + 1, 1)."""
    first = torch.as_tensor(images)[:, 0, 0].double()
    h = torch.stack([first[:, 0] * 256 + first[:, 1] + 1, torch.ones(len(images))], 1)
    z = h.norm(dim=1)
    return (h / z[:, None]).float(), z.float()
