"""What the words of the command mean: tables, seeds, and where the data is."""

from pathlib import Path

from tools.ablation.runs import ROOT, word
from utils import config


def names(own: dict[str, str]) -> list[str]:
    """The tables that are asked for, in their order."""
    return list(dict.fromkeys(own.get("tables", "I,II,III").split(",")))


def seeds(own: dict[str, str]) -> list[int]:
    """The seeds.

    Raises:
        ValueError: the word is no list of different numbers.
    """
    text = own.get("seeds", "0,1,2")
    try:
        found = [int(seed) for seed in text.split(",")]
        if len(set(found)) == len(found):
            return found
    except ValueError:
        pass
    raise ValueError(f"seeds={text}: expected different whole numbers, as seeds=0,1,2")


def data_words(data: str, recipe: Path, words: list[str]) -> list[str]:
    """`rec` and `val_dir` in a folder of data, as words; the user's own words come after them.

    Raises:
        ValueError: no such folder, or no training faces in it.
    """
    folder = Path(data).resolve()
    if not folder.is_dir():
        raise ValueError(f"data={data}: no such folder; expected the one with the training faces and the targets")
    found = [word("val_dir", str(folder))]
    if any(given.startswith("rec=") for given in words):
        return found
    rec = config.load(str(recipe), words, ROOT / "configs").rec
    inner = folder / Path(rec).name if isinstance(rec, str) else folder
    if not inner.exists():  # records may lie beside the targets; a folder of targets is no folder of identities
        if not any(any(folder.glob(kind)) for kind in ("train.rec", "train-*.rec", "train.json")):
            raise ValueError(
                f"data={data}: no {inner.name}, the recipe's training faces, and no train.rec is in it; "
                f"rec=FOLDER beside it says where they are"
            )
        inner = folder
    return [word("rec", str(inner)), *found]
