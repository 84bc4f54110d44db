"""What was found, on screen and as JSON."""

import json
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

from prettytable import PrettyTable

from tools.doctor.findings import Finding, Findings
from utils.files import replacing

SHOWN, WIDTH, LINES = 3, 100, 4  # examples of a finding on screen, characters of a line of them, lines of each


@dataclass
class Report:
    """Everything about one set; `manifest` as `tools.doctor.manifest.check` returns it, {} without one."""

    data: str
    findings: Findings
    images: int = 0
    identities: int = 0
    channel_order: dict = field(default_factory=dict)
    manifest: dict = field(default_factory=dict)
    recovered: dict = field(default_factory=dict)
    speed: dict = field(default_factory=dict)

    def exit_code(self) -> int:
        """1 with an error or a warning, else 0."""
        counts = self.findings.counts()
        return int(counts["error"] + counts["warning"] > 0)

    def text(self) -> str:
        """The table of findings and a line that sums them up."""
        found, lines = self.findings.all(), []
        if found:
            table = PrettyTable(["check", "severity", "count", "first examples"])
            table.align, table.align["count"] = "l", "r"
            for finding in found:
                table.add_row(
                    [finding.check, finding.severity, f"{finding.count:,}", self._examples(finding)], divider=True
                )
            lines.append(table.get_string())
        if self.recovered:
            found = self.recovered
            lines.append(
                f"recovered: {found['records']:,} whole records by a walk of the .rec, {self.images:,} of them images; "
                f"{found['lost_bytes']:,} bytes are in none"
            )
        if (share := self.channel_order.get("red_above_blue")) is not None:
            lines.append(
                f"channel order: {self.channel_order['verdict']} (R > B in the face's centre in {share:.1%} of "
                f"{self.channel_order['colour_images']:,} colour images)"
            )
        if self.manifest:
            lines.append(f"manifest: {self.manifest['files']:,} files of {self.manifest['file']}")
        counts = ", ".join(f"{n:,} {severity}{'s' * (n != 1)}" for severity, n in self.findings.counts().items())
        lines.append(f"{self.data}: {self.images:,} images of {self.identities:,} identities; {counts}")
        return "\n".join(lines)

    def _examples(self, finding: Finding) -> str:
        """The first ones in lines, paths from the set's folder on."""
        texts, lines = [example["text"] for example in finding.examples[:SHOWN]], []
        for text in texts:
            lines += textwrap.wrap(text.replace(f"{self.data}/", ""), WIDTH, max_lines=LINES, subsequent_indent="  ")
        more = finding.count - len(texts)
        return "\n".join(lines + ([f"... and {more:,} more"] if more else []))

    def write(self, path: Path) -> None:
        """The same as JSON, with up to LIMIT examples of each finding, as a whole or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        content = self.__dict__ | {"findings": self.findings.as_json()}
        with replacing(path) as beside:
            beside.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
