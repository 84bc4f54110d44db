"""Tar shards that come from a URL: the cache, processes that share it, and what goes wrong on the way."""

import functools
import http.server
import multiprocessing
import os
import threading
import time

import fsspec
import numpy as np
import pytest

from recognition.data.augment import Augment
from recognition.data.index import RecordError, StorageError
from recognition.data.loader import Loader, ViewBatches
from recognition.data.sampler import GlobalBatchSampler
from recognition.data.sources import open_source
from recognition.data.sources.fetch import Cache
from tests.tars import Bucket, write_set
from utils import jpeg

LABELS = [0, 3, 1, 1, 2, 3, 0, 2]
IMAGES = [b"image %d" % number for number in range(8)]
SAMPLES = list(zip(IMAGES, LABELS, strict=True))
NAMES = [f"train-{place:05}.tar" for place in range(4)]


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """The URL of an index with four shards of two samples."""
    monkeypatch.setattr(Bucket, "root", tmp_path / "bucket")
    write_set(tmp_path / "bucket", IMAGES, LABELS, [2] * 4)
    return "bucket://train.json"


def copies(cache) -> list[str]:
    """The shards that are in the cache; their names begin with 16 digits of the URL's digest."""
    return sorted(path.name[17:] for path in cache.glob("[!.]*"))


def refused(action, *words, error=RecordError):
    with pytest.raises(error) as caught:
        action()
    message = str(caught.value)
    assert all(str(word) in message for word in words) and "\n" not in message, message


def test_each_shard_is_fetched_when_it_is_needed_and_once(bucket, tmp_path):
    source = open_source(bucket, cache=tmp_path / "cache")
    assert (len(source), source.num_classes, source.name) == (8, 4, bucket)
    assert Bucket.fetched() == NAMES[:1]  # looked at when it is opened
    assert source[5] == SAMPLES[5] and Bucket.fetched() == [NAMES[0], NAMES[2]]
    assert [source[number] for number in range(8)] == SAMPLES and len(Bucket.fetched()) == 4
    again = open_source(bucket, cache=str(tmp_path / "cache"))
    assert [again[number] for number in range(8)] == SAMPLES and again.labels().tolist() == LABELS
    assert len(Bucket.fetched()) == 4 and copies(tmp_path / "cache") == NAMES
    assert source.where(5) == "bucket://train-00002.tar: sample 1"


def test_memory_of_fsspec(tmp_path):
    write_set(tmp_path, IMAGES, LABELS, [4, 4])
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path), "/faces", recursive=True)
    source = open_source("memory://faces/train.json", cache=tmp_path / "cache")
    assert [source[number] for number in range(8)] == SAMPLES
    memory.rm("/faces", recursive=True)


def test_what_is_local_is_used_where_it_is(tmp_path):
    index = write_set(tmp_path, IMAGES, LABELS, [8])
    for url in (str(index), f"file://{index}"):
        assert open_source(url, cache=tmp_path / "cache")[7] == SAMPLES[7]
    assert not (tmp_path / "cache").exists()


def test_the_copy_that_was_not_used_for_longest_goes_first(bucket, tmp_path):
    size = (Bucket.root / NAMES[0]).stat().st_size
    source = open_source(bucket, cache=tmp_path / "cache", cache_limit=3 * size)
    for age, place in enumerate((2, 1, 0)):  # 2 was used last
        source[2 * place]
        path = next((tmp_path / "cache").glob(f"*-{NAMES[place]}"))
        os.utime(path, (1000 - age, 1000 - age))
    open_source(bucket, cache=tmp_path / "cache")  # uses 0
    source[6]
    assert copies(tmp_path / "cache") == [NAMES[0], NAMES[2], NAMES[3]]
    assert [source[number] for number in range(8)] == SAMPLES and len(Bucket.fetched()) == 4  # 1 is open still
    fresh = open_source(bucket, cache=tmp_path / "cache")
    assert fresh[2] == SAMPLES[2] and Bucket.fetched()[4:] == [NAMES[1]]


@pytest.mark.parametrize("limit", [0, 1])
def test_a_limit_below_one_shard_keeps_the_newest(bucket, tmp_path, limit):
    source = open_source(bucket, cache=tmp_path / "cache", cache_limit=limit)
    assert [source[number] for number in range(8)] == SAMPLES
    assert copies(tmp_path / "cache") == NAMES[3:]


def test_other_files_in_the_folder_are_left_alone(bucket, tmp_path):
    (tmp_path / "cache" / "thesis").mkdir(parents=True)
    (tmp_path / "cache" / "train.rec").write_bytes(b"the only copy")
    source = open_source(bucket, cache=tmp_path / "cache", cache_limit=1)
    assert [source[number] for number in range(8)] == SAMPLES
    assert (tmp_path / "cache" / "train.rec").read_bytes() == b"the only copy" and (tmp_path / "cache/thesis").is_dir()


def test_urls_with_the_same_last_part_are_different_copies(tmp_path, monkeypatch):
    monkeypatch.setattr(Bucket, "root", tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a/x.tar").write_bytes(b"a")
    (tmp_path / "b/x.tar").write_bytes(b"b")
    cache = Cache(tmp_path / "cache")
    assert [cache.open(f"bucket://{name}/x.tar").read() for name in "abab"] == [b"a", b"b"] * 2


def test_a_long_name_fits_into_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(Bucket, "root", tmp_path)
    monkeypatch.setattr(Bucket, "get_file", lambda self, rpath, lpath, **_: open(lpath, "wb").close())
    Cache(tmp_path / "cache").open("bucket://faces/" + "ä" * 500 + "?X-Amz-Signature=" + "0" * 500)
    assert len(copies(tmp_path / "cache")) == 1


# ----- several processes ----------------------------------------------------------------------------------------------


def in_processes(count: int, function) -> list[int]:
    """Exit codes of `function(number)` in processes that start together."""
    children = [multiprocessing.get_context("fork").Process(target=function, args=(number,)) for number in range(count)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    return [child.exitcode for child in children]


def test_processes_that_want_one_shard_fetch_it_once(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(Bucket, "seconds", 0.3)

    def read(_):
        assert open_source(bucket, cache=tmp_path / "cache")[0] == SAMPLES[0]

    assert in_processes(4, read) == [0] * 4 and Bucket.fetched() == NAMES[:1]


def test_processes_that_make_room_for_each_other(bucket, tmp_path):
    """One shard fits, and four processes want all of them again and again: a copy may go while another opens it."""

    def read(number):
        cache = Cache(tmp_path / "cache", 1)
        for place in np.random.default_rng(number).integers(0, 4, 150).tolist():
            with cache.open(f"bucket://{NAMES[place]}") as file:
                assert file.read() == (Bucket.root / NAMES[place]).read_bytes()

    assert in_processes(4, read) == [0] * 4


def test_a_fetch_that_was_killed_is_begun_anew(bucket, tmp_path, monkeypatch):
    cache = tmp_path / "cache"

    def killed(self, rpath, lpath, **_):
        with open(lpath, "wb") as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), 9)

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "get_file", killed)
        assert in_processes(1, lambda _: open_source(bucket, cache=cache)) == [-9]
    assert open_source(bucket, cache=cache)[0] == SAMPLES[0] and copies(cache) == NAMES[:1]


# ----- what goes wrong ------------------------------------------------------------------------------------------------


def test_a_url_needs_a_folder_for_its_copies(bucket):
    refused(lambda: open_source(bucket), "bucket://train-00000.tar", "cache=FOLDER")


def test_a_shard_that_cannot_be_fetched(bucket, tmp_path, monkeypatch):
    """It is no damage: nothing stays behind, and the next attempt may succeed."""
    source, whole = open_source(bucket, cache=tmp_path / "cache"), Bucket.get_file

    def broken(self, rpath, lpath, **_):
        with open(lpath, "wb") as file:
            file.write(b"half")
        raise OSError("connection\nlost")

    monkeypatch.setattr(Bucket, "get_file", broken)
    words = "bucket://train-00001.tar cannot be fetched: OSError: connection lost"
    refused(lambda: source[2], words, error=StorageError)
    assert copies(tmp_path / "cache") == NAMES[:1] and not list((tmp_path / "cache").glob("*.part"))
    monkeypatch.setattr(Bucket, "get_file", whole)
    assert source[2] == SAMPLES[2]


@pytest.mark.parametrize(
    "url, words",
    [
        ("bucket://none.json", "FileNotFoundError"),
        ("nonsense://train.json", "Protocol not known"),
        ("https://127.0.0.1:1/train.json", "train.json cannot be read: "),
    ],
)
def test_an_index_that_cannot_be_fetched(bucket, tmp_path, url, words):
    refused(lambda: open_source(url, cache=tmp_path / "cache"), f"{url} cannot be read: ", words)


def test_a_folder_that_cannot_be_written(bucket, tmp_path):
    (tmp_path / "file").write_text("")
    refused(lambda: open_source(bucket, cache=tmp_path / "file"), NAMES[0], "FileExistsError")


def test_a_run_that_skips_damage_does_not_skip_what_it_cannot_fetch(bucket, tmp_path, monkeypatch):
    """A network that is down for a minute would leave out other samples on each machine, and nobody would know."""
    images = [jpeg.encode(np.full((32, 32, 3), 20 * number, np.uint8)) for number in range(8)]
    write_set(Bucket.root, images, LABELS, [2] * 4, side=32)
    (Bucket.root / NAMES[1]).write_bytes(b"no tar")
    source = open_source(bucket, cache=tmp_path / "cache")
    batches = ViewBatches(source, Augment("none"), ("original",), 0, 32, corrupt="skip")
    assert len(batches[0, np.arange(8)].damaged) == 2  # a shard that is there, and is damaged
    (Bucket.root / NAMES[2]).unlink()
    fresh = open_source(bucket, cache=tmp_path / "other")
    batches = ViewBatches(fresh, Augment("none"), ("original",), 0, 32, corrupt="skip")
    refused(lambda: batches[0, np.array([4])], NAMES[2], "cannot be fetched", error=StorageError)
    everywhere = [batches_of(fresh, epoch) for epoch in range(20)]  # where a substitute would come from there
    assert set(everywhere) == {"fine", "cannot be fetched"}


def batches_of(source, epoch: int) -> str:
    batches = ViewBatches(source, Augment("none"), ("original",), 0, 32, corrupt="skip")
    try:
        batches[epoch, np.array([2])]
    except StorageError as error:
        assert NAMES[2] in str(error)
        return "cannot be fetched"
    return "fine"


# ----- HTTP -----------------------------------------------------------------------------------------------------------


class Handler(http.server.SimpleHTTPRequestHandler):
    asked: list[str] = []

    def do_GET(self):
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """The address of a server of `tmp_path / "www"`."""
    pytest.importorskip("aiohttp")  # fsspec's driver for HTTP is built on it
    (tmp_path / "www").mkdir()
    Handler.asked = []
    handler = functools.partial(Handler, directory=tmp_path / "www")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("query", ["", "?signature=a/b%2Fc&expires=1"])
def test_http(server, tmp_path, query):
    write_set(tmp_path / "www" / "faces", IMAGES, LABELS, [2] * 4)
    source = open_source(f"{server}/faces/train.json{query}", cache=tmp_path / "cache")
    assert [source[number] for number in range(8)] == SAMPLES
    shards = [f"/faces/{name}" for name in NAMES]
    assert source.urls == [server + path for path in shards]
    assert [path for path in Handler.asked if path in shards] == shards


def test_http_shards_with_addresses_of_their_own(server, tmp_path):
    shards = [{"url": f"{server}/b/{NAMES[0]}?key=a/b", "nsamples": 4}, {"url": f"/b/{NAMES[1]}?k", "nsamples": 4}]
    write_set(tmp_path / "www" / "b", IMAGES, LABELS, [4, 4])
    index = write_set(tmp_path / "www" / "a", IMAGES, LABELS, [8], shardlist=shards)
    index.with_name(NAMES[0]).unlink()
    source = open_source(f"{server}/a/train.json", cache=tmp_path / "cache")
    assert [source[number] for number in range(8)] == SAMPLES
    assert f"/b/{NAMES[0]}?key=a/b" in Handler.asked and f"/b/{NAMES[1]}?k" in Handler.asked


def test_http_without_the_file_or_the_server(server, tmp_path):
    write_set(tmp_path / "www", IMAGES, LABELS, [2] * 4)
    refused(lambda: open_source(f"{server}/none/train.json"), f"{server}/none/train.json cannot be read: FileNotFound")
    source = open_source(f"{server}/train.json", cache=tmp_path / "cache")
    (tmp_path / "www" / NAMES[1]).unlink()
    refused(lambda: source[2], f"{server}/{NAMES[1]} cannot be fetched: FileNotFound", error=StorageError)
    refused(lambda: open_source("http://127.0.0.1:1/train.json"), "http://127.0.0.1:1/train.json cannot be read: ")


def test_http_in_workers_that_were_forked(server, tmp_path):
    """The parent has spoken to the server already: its connections and threads are not the workers'."""
    images = [jpeg.encode(np.full((32, 32, 3), 20 * number, np.uint8)) for number in range(8)]
    write_set(tmp_path / "www", images, LABELS, [2] * 4, side=32)
    source = open_source(f"{server}/train.json", cache=tmp_path / "cache")
    batches = ViewBatches(source, Augment("none"), ("original",), 0, 32)
    loader, start = Loader(batches, GlobalBatchSampler(8, 2, 0), num_workers=2), time.time()
    seen = [pair for batch in loader.epoch(0) for pair in zip(batch.index.tolist(), batch.labels.tolist(), strict=True)]
    assert sorted(seen) == list(enumerate(LABELS)) and time.time() - start < 30
