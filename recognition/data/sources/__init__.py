"""Sources of labelled encoded faces: record folders, shards, folders of images, tar files, and lists of them.

A source has `num_classes`, `side` (pixels), `name`, a length, `source[i] -> (encoded image, label)`, `where(i)`, which
names a sample in messages, `labels()`, and `digest()`, by which copies on several machines are compared. Sources can be
pickled and read from any number of threads and processes.
"""

from collections.abc import Sequence
from pathlib import Path

from recognition.data.sources.folder import FolderSource
from recognition.data.sources.joined import Joined, open_shards
from recognition.data.sources.records import BACKENDS, MAX_CLASSES, RecordSource
from recognition.data.sources.tars import TarSource

__all__ = ["BACKENDS", "MAX_CLASSES", "FolderSource", "Joined", "RecordSource", "TarSource", "open_source"]


def open_source(
    path: str | Path | Sequence[str],
    backend: str = "native",
    cache: str | Path | None = None,
    cache_limit: int | None = None,
    corrupt: str = "stop",
):
    """The faces at `path`.

    Args:
        path: a `.rec` file or a folder with one; a folder of shards (`train-*.rec`); a folder of one folder of images
            per identity; a folder with `train.json` and tar files, or the path or URL of that `train.json`; or several
            of these in a list, whose identities are then different people.
        backend: which library reads records, "native" or "mxnet".
        cache, cache_limit: folder for what comes from a URL, and the bytes that may be there.
        corrupt: "skip" opens records whose first or last image is damaged.

    Raises:
        ValueError: nothing of that kind is there, or it is damaged.
    """
    if backend not in BACKENDS:
        raise ValueError(f"recordio_backend={backend!r}: expected one of {', '.join(BACKENDS)}")
    if isinstance(path, (list, tuple)):
        if not path:
            raise ValueError("rec=[] names no data: expected at least one folder")
        sources = [open_source(one, backend, cache, cache_limit, corrupt) for one in path]
        return sources[0] if len(sources) == 1 else Joined(sources, " + ".join(source.name for source in sources))
    if "://" in str(path) or str(path).endswith(".json"):
        return TarSource(str(path), cache, cache_limit)
    path = Path(str(path))
    if not path.exists():
        raise ValueError(f"data {path} does not exist; rec=FOLDER says where train.rec or the identities' folders are")
    if path.is_dir():
        shards = sorted(path.glob("train-*.rec"))
        if not (path / "train.rec").exists() and (len(shards) > 1 or shards and (path / "property").exists()):
            return open_shards(path, shards, backend, corrupt)
        if (path / "train.json").exists():
            return TarSource(str(path / "train.json"), cache, cache_limit)
        if not any(path.glob("*.rec")) and not any(path.glob("*.idx")):
            return FolderSource(path)
    return RecordSource(path, backend, corrupt)
