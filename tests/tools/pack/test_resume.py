"""Packing and unpacking that is killed, goes on, and never leaves half a set or harms another one."""

import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from tests.packing import killed, tree, write_folder
from tools import unpack
from tools.pack import __main__ as pack
from tools.pack.journal import Growing

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
KINDS = {
    "records": [],
    "shards": ["--shards", "3", "--shuffle", "1"],
    "tars": ["--format", "webdataset", "--shard-size", "4"],
    "skipping": ["--bad", "skip"],
}


@pytest.fixture
def faces(tmp_path):
    return write_folder(tmp_path / "faces")


def case(kind, faces, tmp_path):
    """The command, the words without the output folder, and what an uninterrupted run makes."""
    if kind == "skipping":
        (faces / "anna" / "3.jpg").write_bytes(b"x")
        (faces / "ben" / "1.jpg").write_bytes(b"y")
    words, main = [str(faces), *KINDS.get(kind, []), "--workers", "0"], pack.main
    if kind == "unpacking":
        main([*words, "--output", str(tmp_path / "rec")])
        words, main = [str(tmp_path / "rec"), "--workers", "0"], unpack.main
    main([*words, "--output", str(tmp_path / "whole")])
    return main, words, tree(tmp_path / "whole")


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [*KINDS, "unpacking"])
def test_killed_at_any_moment(faces, tmp_path, kind, step):
    """At each `step`-th change of the disk once; what the folder holds then is no set, or the whole one."""
    main, words, whole = case(kind, faces, tmp_path)
    ends = {"train.rec", "train.json", "train-00002-of-00003.rec"} if kind != "unpacking" else {"train.lst"}
    for moment in range(len(kind) % step + 1, 1000, step):
        out = tmp_path / f"out{moment}"
        if not killed(main, [*words, "--output", str(out)], moment):
            break
        found = tree(out)
        if ends & set(found):
            assert {name: data for name, data in found.items() if not name.startswith(".")} == whole
        if ends & set(found) and not any(out.glob(".*/notes.json")):
            continue  # whole: only the cleaning up was cut off
        main([*words, "--output", str(out)])
        assert tree(out) == whole and not list(out.glob(".*")), moment
    assert moment > 25 and tree(out) == whole


@pytest.mark.parametrize("kind", [*KINDS, "unpacking"])
def test_killed_again_and_again(faces, tmp_path, kind):
    main, words, whole = case(kind, faces, tmp_path)
    out, times = tmp_path / "out", 0
    while killed(main, [*words, "--output", str(out)], 9 + times):
        times += 1
        assert times < 100
    assert tree(out) == whole and times >= 3


def test_killed_from_outside_with_workers(tmp_path):
    faces = write_folder(tmp_path / "faces", {f"p{number:03d}": 20 for number in range(15)})
    words = [str(faces), "--side", "300", "--resize", "--output"]
    pack.main([*words, str(tmp_path / "whole")])
    code = "import sys; from tools.pack import journal, __main__; journal.SECONDS = 0; __main__.main(sys.argv[1:])"
    command = [sys.executable, "-c", code, *words, str(tmp_path / "out")]
    child = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    notes = tmp_path / "out" / ".pack-unfinished" / "notes.json"
    while not notes.exists():
        assert child.poll() is None
        time.sleep(0.01)
    time.sleep(0.1)
    os.killpg(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL and notes.exists()
    assert not (tmp_path / "out" / "train.rec").exists()
    pack.main([*words, str(tmp_path / "out")])
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def refused(main, words, match):
    with pytest.raises(ValueError, match=match):
        main(list(map(str, words)))


def test_other_arguments_do_not_go_on(faces, tmp_path):
    out, whole = tmp_path / "out", tmp_path / "whole"
    words = [str(faces), "--workers", "0", "--output"]
    assert killed(pack.main, [*words, str(out)], 20)
    before = tree(out)
    refused(
        pack.main, [*words, out, "--max-images", 2], "unfinished set of other arguments .*faces --workers 0 --output"
    )
    (faces / "ben" / "9.jpg").write_bytes((faces / "ben" / "0.jpg").read_bytes())  # other sources
    refused(pack.main, [*words, out], "unfinished set of other arguments or sources")
    assert tree(out) == before
    pack.main([*words, str(out), "--force"])
    pack.main([*words, str(whole)])
    assert tree(out) == tree(whole)


def test_what_has_not_begun_is_in_nobodys_way(faces, tmp_path):
    out, words = tmp_path / "out", [str(faces), "--workers", "0", "--output"]
    (faces / "anna" / "0.jpg").write_bytes(b"x")
    refused(pack.main, [*words, out], "anna/0.jpg")
    pack.main([*words, str(out), "--max-images", "2", "--bad", "skip"])
    assert (out / "train.rec").exists()


def test_a_set_is_only_replaced_by_force_and_stays_until_then(faces, tmp_path):
    out, words = tmp_path / "out", [str(faces), "--workers", "0", "--output", str(tmp_path / "out")]
    pack.main([*words, "--shards", "2"])
    (out / "notes.txt").write_text("mine")
    before = tree(out)
    refused(pack.main, words, "holds property already; choose another --output, or add --force")
    assert tree(out) == before
    assert killed(pack.main, [*words, "--force"], 20)
    assert {name: data for name, data in tree(out).items() if not name.startswith(".")} == before
    refused(pack.main, words, "already")
    pack.main([*words, "--force"])
    assert sorted(tree(out)) == ["notes.txt", "property", "train.idx", "train.lst", "train.rec"]
    refused(pack.main, words, "holds property already")


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_replacing_that_is_killed_at_any_moment(faces, tmp_path, step):
    words, moment = [str(faces), "--workers", "0", "--force", "--output"], 0
    pack.main([*words, str(tmp_path / "new"), "--max-images", "1"])
    new, going = tree(tmp_path / "new"), True
    while going:
        moment += step
        out = tmp_path / f"out{moment}"
        pack.main([*words, str(out), "--bad", "skip", "--shards", "2"])
        old = tree(out)
        going = killed(pack.main, [*words, str(out), "--max-images", "1"], moment)
        found = {name: data for name, data in tree(out).items() if not name.startswith(".")}
        assert found in (old, new) or "train.rec" not in found
        pack.main([*words, str(out), "--max-images", "1"])
        assert tree(out) == new


def test_output_is_no_source(faces, tmp_path):
    pack.main([str(faces), "--output", str(tmp_path / "out"), "--workers", "0"])
    for source in (tmp_path / "out", tmp_path / "out" / "train.rec", tmp_path / "out" / "train.lst"):
        refused(pack.main, [source, "--output", tmp_path / "out", "--force"], "where the source .* lies")
    refused(unpack.main, [tmp_path / "out", "--output", tmp_path / "out", "--force"], "where train.rec lies")


def test_two_runs_at_once(faces, tmp_path):
    (tmp_path / "out" / ".pack-unfinished").mkdir(parents=True)
    code = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    lock = str(tmp_path / "out" / ".pack-unfinished" / "lock")
    command = [sys.executable, "-c", code, lock]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        refused(pack.main, [faces, "--output", tmp_path / "out"], "another run is writing there")
        other.stdin.close()


@pytest.mark.parametrize("command", ["pack", "unpack"])
def test_output_that_cannot_be_written(faces, tmp_path, command):
    (tmp_path / "file").write_text("")
    source, main = faces, pack.main
    if command == "unpack":
        pack.main([str(faces), "--output", str(tmp_path / "rec"), "--workers", "0"])
        source, main = tmp_path / "rec", unpack.main
    for out in (tmp_path / "file", tmp_path / "file" / "below", "/proc/below"):
        refused(main, [source, "--output", out], f"output folder {out} cannot be written .*--output")


def test_a_full_disk(faces, tmp_path):
    """A limit on the size of files stands for it: the same call fails, with another errno."""
    words = [str(faces), "--workers", "0", "--output", str(tmp_path / "out")]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        refused(pack.main, words, "out: File too large after .* of 10 images; mend that and start again")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "out" / "train.rec").exists()
    pack.main(words)
    pack.main([*words[:-1], str(tmp_path / "whole")])
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_files_that_a_power_cut_took_are_written_again(faces, tmp_path):
    words = [str(faces), "--workers", "0", "--output"]
    assert killed(pack.main, [*words, str(tmp_path / "out")], 30)
    with (tmp_path / "out" / ".pack-unfinished" / "train.rec").open("r+b") as file:
        file.truncate(10)
    pack.main([*words, str(tmp_path / "out")])
    pack.main([*words, str(tmp_path / "whole")])
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_growing_file(tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789")
    file = Growing(tmp_path / "a", 4)
    file.write(b"abc")
    assert file.tell() == 7 and file.sync() == 7
    file.patch(1, b"xy")
    file.close()
    assert (tmp_path / "a").read_bytes() == b"0xy3abc"


def test_a_user_sees_one_line(faces, tmp_path):
    command = [sys.executable, "-m", "tools.pack", str(faces), "--output", str(tmp_path / "out"), "--side", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --side 0: expected 1 to 4096\n"
