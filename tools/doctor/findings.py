"""What the checks found: a kind of fault, how grave it is, how often it was seen and where."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

LIMIT = 10_000  # examples kept of one finding; its count goes on
SEVERITIES = ("error", "warning", "note")


@dataclass
class Finding:
    """One kind of fault; `examples` are at most LIMIT times `{"text": str, "keys": [record key or file, ...], ...}`."""

    check: str
    severity: str
    count: int = 0
    examples: list[dict] = field(default_factory=list)


class Findings:
    """Findings in the order in which the checks met them."""

    def __init__(self):
        self._found: dict[tuple[str, str], Finding] = {}

    def add(self, check: str, severity: str, text: str, keys: Iterable = (), **more) -> None:
        """One more of a kind; `more` goes into the example as it is."""
        if severity not in SEVERITIES:
            raise ValueError(f"severity {severity!r}: expected one of {SEVERITIES}")
        finding = self._found.setdefault((check, severity), Finding(check, severity))
        finding.count += 1
        if len(finding.examples) < LIMIT:
            finding.examples.append({"text": text, "keys": list(keys), **more})

    def all(self) -> list[Finding]:
        """Errors first, then warnings, then notes."""
        return sorted(self._found.values(), key=lambda finding: SEVERITIES.index(finding.severity))

    def counts(self) -> dict[str, int]:
        """severity -> number of faults of all checks."""
        totals = dict.fromkeys(SEVERITIES, 0)
        for finding in self._found.values():
            totals[finding.severity] += finding.count
        return totals

    def as_json(self) -> list[dict]:
        """`all` as plain dicts."""
        return [asdict(finding) for finding in self.all()]
