"""How each command of the documents is tried. A command that no line here stands for fails the test.

Patterns are those of `fnmatch` over the command's words; the first that fits counts, in the order RUN_BY_OTHERS,
PARSED, RUN. After the pattern comes why it is not run, or the words that make it short.
"""

from tests.docs.place import SMALL

# What no test here starts, and who does instead.
NOT_STARTED = {
    "./run.sh": "the demo, minutes: tests/test_run_sh.py runs it, marked slow",
    "./run.sh test": "the tests themselves",
    "./run.sh test *": "the tests themselves",
    "./run.sh help": "tests/test_run_sh.py",
    "./run.sh eval *...*": "an excerpt: another command stands before it in full",
    "./run.sh eval": "named, without what it takes",
    "python -m tools.inspect augment": "named, without what it takes",
    "./run.sh setup": "installs packages",
    "source .venv/*": "the shell's",
    "python utils/launch.py *": "a record of what was measured",
    "python -m pytest *": "the tests themselves",
}
# Read by the real parser, configs resolved, nothing started.
PARSED = {
    "docs/results.md": "a record of what was measured, on other data and with other models",
    "docs/ablation.md: ./run.sh *": "weeks on GPUs; tests/test_tables.py compares the keys with the tables",
    "docs/running.md: ./run.sh *": "several machines: tests/test_run_sh.py and tests/test_elastic.py start them",
    "python -m tools.bench *": "minutes; tests/tools/test_bench.py runs them small",
    "python -m tools.soak *": "minutes of killing; tests/tools/test_soak.py",
}
# Run, in this process, on the small data of tests/docs/place.py.
RUN = {
    "./run.sh eval *": [],
    "./run.sh *": [*SMALL, "max_step=1", "val_targets=[]", "output=run", "overwrite=True"],
    "python -m eval *": [],
    "python -m eval.ijb_1[1n] *": ["--network", "tiny", "--embedding-size", "16"],
    "python -m tools.ablation *": ["--output", "tables", "--report"],
    "python -m tools.bin *": [],
    "python -m tools.checkpoint *": [],
    "python -m tools.doctor *": [],
    "python -m tools.figures *": [],
    "python -m tools.inspect *": [],
    "python -m tools.pack *": [],
    "python -m tools.plan *": [],
    "python -m tools.unpack *": [],
}
