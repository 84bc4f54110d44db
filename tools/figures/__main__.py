"""Draw the paper's figures from recorded data.

    python -m tools.figures gst --output gst.png
    python -m tools.figures pairs --help

gst         the gradient scaling term over angle and quality, AdaFace beside ArcFace           (Fig. 2)
difference  |q - key| of positive and negative pairs over training, for each run's queue       (Fig. 3b)
pairs       original and augmented images, those that a run's model finds LQ framed in red     (Fig. 4)
similarity  matched and most similar unmatched pairs of two models, for each distance          (Fig. 5)
"""

import sys

from tools.figures import difference, gst, pairs, similarity
from utils.cli import Parser, user_errors

PARTS = {"gst": gst.main, "difference": difference.main, "pairs": pairs.main, "similarity": similarity.main}


def main(words: list[str]) -> None:
    """Hand the words after the first to the part that it names."""
    parser = Parser("python -m tools.figures", __doc__)
    parser.add_argument("name", choices=PARTS, help="as above; each has options of its own")
    PARTS[parser.parse_args(words[:1]).name](words[1:])


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
