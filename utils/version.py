"""Which code this is."""

import hashlib
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def code_version() -> str:
    """The commit, with "-dirty" after changes; without git, a digest of the sources."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    if (ROOT / ".git").exists():
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            pass
    sha = hashlib.sha256()
    for path in sorted(path for part in ("recognition", "eval", "utils") for path in (ROOT / part).rglob("*.py")):
        sha.update(path.read_bytes())
    return f"sources-{sha.hexdigest()[:12]}"
