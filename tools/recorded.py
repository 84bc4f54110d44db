"""What a run wrote down while it trained."""

from collections.abc import Iterator
from pathlib import Path

from utils.log_lines import read_metrics


def metrics(run: Path) -> Iterator[dict]:
    """Each line of a run's metrics.jsonl; `run` is its folder, or the file. A torn line at its end, of a run that still
    writes, is passed over.

    Raises:
        ValueError: no such file, or a line that is none.
    """
    path = Path(run) / "metrics.jsonl" if Path(run).is_dir() else Path(run)
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror or error}); expected the folder of a run, with metrics.jsonl"
        ) from None
    for number, line in enumerate(lines, 1):
        try:
            yield read_metrics(line)
        except (ValueError, LookupError, TypeError):
            raise ValueError(f"{path}: line {number} is not one of metrics.jsonl") from None
