"""How each command of the documents is tried. A command that no line here stands for fails the test.

Patterns are those of `fnmatch` over the command's words, after "DOCUMENT: " where they are for one document alone; the
first that fits counts, in the order NOT_STARTED, PARSED, RUN. After the pattern comes why it is not run, or the words
that make it short. tests/docs/place.py has the files that commands may name.
"""

from tests.docs.place import SMALL

# What no test here starts, and who does instead.
NOT_STARTED = {
    "docs/first_hour.md: *": "a recording on real faces, a mistyped key included; the same commands stand elsewhere",
    "./run.sh": "the demo, minutes: tests/test_run_sh.py runs it, marked slow",
    "./run.sh test": "the tests themselves",
    "./run.sh test *": "the tests themselves",
    "./run.sh help": "tests/test_run_sh.py",
    "./run.sh doctor": "tests/utils/test_machine.py",
    "./run.sh $@": "the words that a script was given",
    "* ... *": "an excerpt: another command stands before it in full",
    "* eval MODEL ...": "named, without what it takes",
    "qgface train CONFIG *": "the launcher: tests/test_packaging.py",
    "./run.sh eval": "named, without what it takes",
    "python -m tools.inspect augment": "named, without what it takes",
    "./run.sh setup": "installs packages",
    "source .venv/*": "the shell's",
    "python3 -m venv *": "Python's own",
    "pip install *": "installs packages: tests/test_packaging.py",
    "docker *": "needs Docker",
    "sbatch *": "needs Slurm",
    "kubectl *": "needs Kubernetes",
    "python utils/launch.py *": "a record of what was measured",
    "python -m pytest *": "the tests themselves",
    "python -m utils.start SCRIPT WORDS": "a script of the reader's own: tests/utils/test_start.py",
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
    "python -m eval.report *": [],
    "python -m eval.ijb_1[1n] *": ["--network", "tiny", "--embedding-size", "16"],
    "python -m tools.ablation *": ["--output", "tables", "--report"],
    "python -m tools.bin *": [],
    "python -m tools.checkpoint *": [],
    "python -m tools.compare *": [],
    "python -m tools.doctor *": [],
    "python -m tools.encode *": [],
    "python -m tools.export *": [],
    "python -m tools.figures *": [],
    "python -m tools.inspect *": [],
    "python -m tools.pack *": [],
    "python -m tools.plan *": [],
    "python -m tools.search *": [],
    "python -m tools.unpack *": [],
    "qgface data-doctor *": [],
}
