"""What a disk may do to a checkpoint."""

import random
from pathlib import Path

from utils.checkpoint import MANIFEST


def truncate(path: Path, rng: random.Random) -> None:
    """Cut a file somewhere."""
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def flip(path: Path, rng: random.Random) -> None:
    """Change one bit; not of the number of the format, which would make it a checkpoint of another version."""
    content = bytearray(path.read_bytes())
    first = content.index(b"files") if path.name == MANIFEST else 0
    content[rng.randrange(first, len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def delete(path: Path, rng: random.Random) -> None:
    """Remove a file."""
    path.unlink()


KINDS = {"truncated": truncate, "one bit flipped": flip, "deleted": delete}


def damage(checkpoint: Path, kind: str, rng: random.Random) -> str:
    """Damage one file of a checkpoint; returns what was done."""
    file = rng.choice(sorted(checkpoint.iterdir()))
    KINDS[kind](file, rng)
    return f"{checkpoint.name}/{file.name} {kind}"
