"""Folders of images, one folder for each identity."""

from pathlib import Path

import numpy as np

from recognition.data.sources.digest import digest
from utils.images import is_image, passed_over


class FolderSource:
    """`root/<identity>/<image>`: identities in name order are the labels 0, 1, ...

    Attributes:
        note: a line on images of formats that are not read, or None.

    Raises:
        ValueError: no folders with images below `root`.
    """

    def __init__(self, root: str | Path, side: int = 112):
        self.root, self.name, self.side = Path(root), str(root), side
        folders = sorted(path for path in self.root.iterdir() if path.is_dir())
        files = [sorted(folder.iterdir()) for folder in folders]
        groups = [[path for path in inside if is_image(path)] for inside in files]
        self.note = passed_over(root, (path for inside in files for path in inside))
        kept = [(folder, group) for folder, group in zip(folders, groups, strict=True) if group]
        if not kept:
            more = f" ({self.note})" if self.note else ""
            raise ValueError(f"{root}: no images in folders of it; expected {root}/<identity>/<image>.jpg{more}")
        self.identities = [folder.name for folder, _ in kept]
        self.paths = [path for _, group in kept for path in group]
        self._labels = np.repeat(np.arange(len(kept)), [len(group) for _, group in kept])
        self.num_classes = len(kept)

    def __len__(self) -> int:
        return len(self.paths)

    def where(self, index: int) -> str:
        return str(self.paths[index])

    def digest(self) -> str:
        """Alike for the same identities and file names; the files themselves are not read."""
        return digest(*(f"{path.relative_to(self.root)}\n" for path in self.paths))

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        """Encoded image and label of a sample."""
        return self.paths[index].read_bytes(), int(self._labels[index])

    def labels(self) -> np.ndarray:
        """(n,) int64 labels of all samples."""
        return self._labels
