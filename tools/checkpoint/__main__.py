"""Tell what is in a run's checkpoints, and make of them what other programs need.

    python -m tools.checkpoint list work_dirs/demo                    which there are, whether they are whole
    python -m tools.checkpoint verify work_dirs/demo                  read and hash everything; exit code 1: not whole
    python -m tools.checkpoint convert CHECKPOINT --to model.pt       the backbone, as arcface_torch and eval load it
    python -m tools.checkpoint prune work_dirs/demo --keep 1          make room

RUN is a run's folder or its folder `checkpoints`, CHECKPOINT one folder in that. docs/checkpoints.md has the format.
"""

import sys
from pathlib import Path

from tools.checkpoint.convert import convert
from tools.checkpoint.listing import show, verify
from tools.checkpoint.pruning import prune
from utils.cli import Parser, user_errors

PROG = "python -m tools.checkpoint"
EXAMPLES = [line.strip() for line in __doc__.splitlines() if PROG in line]
RUN, CHECKPOINT = "a run's folder, or its folder `checkpoints`", "one folder in `checkpoints`"


def main(words: list[str]) -> int:
    """Do what the words ask for; returns the exit code."""
    options = vars(_parser().parse_args(words))
    return options.pop("call")(**options) or 0


def _parser() -> Parser:
    parser = Parser(PROG, __doc__)
    commands = parser.add_subparsers(required=True, metavar="list|verify|convert|prune")

    def command(name: str, call, text: str) -> Parser:
        example = next(line.partition("   ")[0] for line in EXAMPLES if f" {name} " in line)
        made = commands.add_parser(name, description=f"{text}\n\n    {example}", help=text)
        made.set_defaults(call=call)
        return made

    made = command("list", show, "Tell what is in a run's checkpoints.")
    made.add_argument("path", type=Path, metavar="RUN|CHECKPOINT", help=f"{RUN}, or {CHECKPOINT}")
    made.add_argument("--verify", action="store_true", help="read and hash the files; default: compare their sizes")

    made = command("verify", verify, "Read and hash whole checkpoints; exit code 1 where one is not whole.")
    made.add_argument("paths", type=Path, nargs="+", metavar="RUN|CHECKPOINT", help=f"{RUN}, or {CHECKPOINT}")

    made = command("convert", convert, "Write the backbone, or the classifier's weights, for other programs.")
    made.add_argument("path", type=Path, metavar="CHECKPOINT", help=CHECKPOINT)
    made.add_argument("--to", type=Path, metavar="FILE", help="the backbone: model.pt, or NAME.safetensors")
    made.add_argument(
        "--head", type=Path, metavar="FILE", help="(N, D) weights of all classes: `weight` of a .pt or .safetensors"
    )
    made.add_argument("--overwrite", action="store_true", help="replace files that are there")

    made = command("prune", prune, "Remove all but the newest checkpoints; one that is whole always stays.")
    made.add_argument("path", type=Path, metavar="RUN", help=RUN)
    made.add_argument("--keep", type=int, required=True, metavar="K", help="so many of the newest stay")
    made.add_argument("--keep-every", type=int, metavar="N", help="each N-th of the run stays too")
    made.add_argument("--leftovers", action="store_true", help="also what was half written; only while no run writes")
    made.add_argument("--dry-run", action="store_true", help="only tell what would go")
    return parser


if __name__ == "__main__":
    with user_errors():
        sys.exit(main(sys.argv[1:]))
