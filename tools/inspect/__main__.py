"""Show what training and evaluation make of faces, as a picture.

    python -m tools.inspect augment data/demo --output augment.png
    python -m tools.inspect surveillance --help

augment         faces, their augmented views, and which of these count as low quality
surveillance    the probes of the evaluation's target `surveillance`
"""

import sys

from tools.inspect import augment, surveillance
from utils.cli import Parser, user_errors

PARTS = {"augment": augment.main, "surveillance": surveillance.main}


def main(words: list[str]) -> None:
    """Hand the words after the first to the part that it names."""
    parser = Parser("python -m tools.inspect", __doc__)
    parser.add_argument("name", choices=PARTS, help="as above; each has options of its own")
    PARTS[parser.parse_args(words[:1]).name](words[1:])


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
