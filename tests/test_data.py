import hashlib
import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits as sklearn_digits

from cifar_report.data import cache, sources
from cifar_report.data.cache import load_images
from cifar_report.data.dataset import load_dataset
from cifar_report.data.download import DownloadError, download
from cifar_report.data.splits import split, split_digest
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import validate

# Digests of the parquet copy, by split, as its keepers state them.
TRAIN_DIGEST = "848dfe625925cb5376f358b59ce37e51b00ba966b21c9f2de46e96a695be1675"
TEST_DIGEST = "482c7e9486de0111f43f3e68fb1c58284a226343fdea13897d75550ed390c495"


def write_parquet(folder: Path, *, train: int = 5_000, test: int = 1_000) -> None:
    """A copy in the mirror's layout whose image of class k is all of colour 20 * k."""
    folder.mkdir(parents=True, exist_ok=True)
    encoded = []
    for label in range(10):
        stream = io.BytesIO()
        Image.new("RGB", (32, 32), (20 * label, 0, 0)).save(stream, format="PNG")
        encoded.append(stream.getvalue())
    for name, count in (("train", train), ("test", test)):
        labels = np.arange(count) % 10
        images = pa.array([{"bytes": encoded[k], "path": None} for k in labels])
        pq.write_table(pa.table({"img": images, "label": labels}), folder / f"{name}-00000-of-00001.parquet")


def batches() -> dict[str, bytes]:
    """The files of a small official archive: 20 images a batch, of colour = label."""
    files = {}
    for name in sources.BATCH_MD5:
        labels = [k % 10 for k in range(20)]
        data = np.repeat(np.array(labels, dtype=np.uint8)[:, None], 3072, axis=1)
        files[name] = pickle.dumps({b"data": data, b"labels": labels})
    return files


@pytest.fixture
def small_archive(tmp_path, monkeypatch) -> Path:
    """A small official archive, whose checksums are the ones expected."""
    files = batches()
    path = tmp_path / "official" / sources.ARCHIVE_NAME
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{sources.ARCHIVE_FOLDER}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(sources, "ARCHIVE_MD5", hashlib.md5(path.read_bytes()).hexdigest())
    monkeypatch.setattr(sources, "BATCH_MD5", {n: hashlib.md5(c).hexdigest() for n, c in files.items()})
    return path


# Sources


def test_checksums_are_torchvisions():
    from torchvision.datasets import CIFAR10

    assert CIFAR10.url == sources.ARCHIVE_URL
    assert CIFAR10.filename == sources.ARCHIVE_NAME
    assert CIFAR10.tgz_md5 == sources.ARCHIVE_MD5
    assert CIFAR10.base_folder == sources.ARCHIVE_FOLDER
    assert dict(CIFAR10.train_list + CIFAR10.test_list) == sources.BATCH_MD5


def test_digits_are_scikit_learns(no_data):
    images, warning = load_images("digits")
    assert warning is None
    assert images.pixels.shape == (1797, 3, 32, 32)
    assert images.pixels.dtype == np.uint8
    assert images.pixels.max() == 255
    original = sklearn_digits()
    assert np.bincount(images.labels).tolist() == np.bincount(original.target).tolist()
    counts = np.bincount(images.labels[images.train_size :])
    assert counts.min() >= 34
    assert counts.max() <= 37
    small = images.pixels[0, 0, ::4, ::4] / 255 * 16
    assert np.abs(small - original.images[0]).max() < 0.05


@pytest.mark.data
def test_real_copy_has_the_stated_digests(real_data):
    images, warning = load_images("cifar10", data_dir=str(real_data))
    assert warning is None
    assert (len(images.labels), images.train_size) == (60_000, 50_000)
    if images.source.startswith("unofficial"):
        assert sources.content_digest(images.pixels[:50_000], images.labels[:50_000]) == TRAIN_DIGEST
        assert sources.content_digest(images.pixels[50_000:], images.labels[50_000:]) == TEST_DIGEST
    assert images.sha256 == sources.content_digest(images.pixels, images.labels)


@pytest.fixture
def few(monkeypatch):
    """Copies have a tenth of the images: decoding them all takes seconds."""
    monkeypatch.setattr(sources, "SIZES", (5_000, 1_000))


def test_parquet_copy_is_read_and_called_unofficial(no_data, few, tmp_path):
    write_parquet(tmp_path / "copy")
    images, _ = load_images("cifar10", data_dir=str(tmp_path / "copy"))
    assert "unofficial copy" in images.source
    assert (images.pixels[:, 0, 0, 0] == 20 * images.labels).all()
    assert (len(images.labels), images.train_size) == (6_000, 5_000)


def test_a_copy_with_the_batches_in_another_order_is_put_in_the_archives(monkeypatch):
    labels = np.random.default_rng(0).integers(0, 10, 60_000).astype(np.uint8)
    monkeypatch.setattr(sources, "LABELS_SHA256", hashlib.sha256(labels).hexdigest())
    batches = np.arange(60_000).reshape(6, -1)
    mirror = batches[[3, 2, 1, 4, 0, 5]].ravel()
    assert np.array_equal(mirror[sources.archive_order(labels[mirror])], np.arange(60_000))
    assert np.array_equal(sources.archive_order(labels), np.arange(60_000))
    other = np.roll(labels, 1)
    assert np.array_equal(sources.archive_order(other), np.arange(60_000))  # taken as it is


def test_the_archives_order_is_that_of_the_records():
    try:
        images, _ = load_images("cifar10", download=False)
    except RequestError as missing:
        pytest.skip(str(missing))
    assert hashlib.sha256(images.labels).hexdigest() == sources.LABELS_SHA256
    assert images.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]  # frog, truck, truck, deer, …: data_batch_1


@pytest.mark.parametrize(("part", "count"), [("train", 4_990), ("test", 990)])
def test_incomplete_parquet_copy_is_refused(no_data, few, tmp_path, part, count):
    write_parquet(tmp_path / "copy", **{part: count})
    with pytest.raises(RequestError, match=rf"{part}-00000.*is incomplete: {count:,} .*fetch it again"):
        load_images("cifar10", data_dir=str(tmp_path / "copy"))


@pytest.mark.parametrize("damage", ["truncated", "garbled", "hollow"])
def test_damaged_parquet_copy_is_an_error_that_names_the_file(no_data, few, tmp_path, damage):
    write_parquet(tmp_path / "copy")
    file = tmp_path / "copy" / "test-00000-of-00001.parquet"
    content = bytearray(file.read_bytes())
    if damage == "garbled":
        content[4:400] = b"x" * 396
    file.write_bytes(content[: len(content) // 2] if damage == "truncated" else content)
    if damage == "hollow":
        table = pq.read_table(file)
        images = pa.array([None, *table["img"].to_pylist()[1:]], type=table["img"].type)
        pq.write_table(table.set_column(0, "img", images), file)
    with pytest.raises(RequestError, match=r"test-00000-of-00001\.parquet is damaged.*fetch it again"):
        load_images("cifar10", data_dir=str(tmp_path / "copy"))


@pytest.mark.parametrize("unpacked", [False, True])
def test_official_copy_is_read(no_data, small_archive, unpacked):
    if unpacked:
        with tarfile.open(small_archive) as archive:
            archive.extractall(small_archive.parent, filter="data")
        small_archive.unlink()
    images, _ = load_images("cifar10", data_dir=str(small_archive.parent))
    assert images.source == "official archive, local copy"
    assert (images.pixels[:, 1, 3, 4] == images.labels).all()
    assert (len(images.labels), images.train_size) == (120, 100)


def test_damaged_archive_is_not_unpickled(no_data, small_archive, monkeypatch):
    content = bytearray(small_archive.read_bytes())
    content[100] ^= 255
    small_archive.write_bytes(content)
    monkeypatch.setattr(pickle, "loads", lambda *a, **k: pytest.fail("unpickled"))
    with pytest.raises(RequestError, match=r"cifar-10-python\.tar\.gz is damaged.*fetch it again"):
        load_images("cifar10", data_dir=str(small_archive.parent))


def test_damaged_batch_is_not_unpickled(no_data, small_archive, monkeypatch):
    with tarfile.open(small_archive) as archive:
        archive.extractall(small_archive.parent, filter="data")
    (small_archive.parent / sources.ARCHIVE_FOLDER / "data_batch_3").write_bytes(b"cos\nsystem\n.")
    monkeypatch.setattr(pickle, "loads", lambda *a, **k: pytest.fail("unpickled"))
    with pytest.raises(RequestError, match="data_batch_3 is damaged"):
        load_images("cifar10", data_dir=str(small_archive.parent))


def test_missing_batch_is_named(no_data, small_archive):
    with tarfile.open(small_archive) as archive:
        archive.extractall(small_archive.parent, filter="data")
    (small_archive.parent / sources.ARCHIVE_FOLDER / "data_batch_3").unlink()
    with pytest.raises(RequestError, match="data_batch_3 is missing"):
        load_images("cifar10", data_dir=str(small_archive.parent))


def test_folder_without_a_copy_is_an_error(no_data, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match=r"data_dir names the folder .* holds no copy"):
        load_images("cifar10", data_dir=str(tmp_path / "empty"), offline="stand_in")
    monkeypatch.setenv("CIFAR_REPORT_DATA", str(tmp_path / "missing"))
    with pytest.raises(RequestError, match=r"CIFAR_REPORT_DATA names the folder .* does not exist"):
        load_images("cifar10", offline="stand_in")


# Downloads


def test_download_of_the_official_archive(no_data, small_archive, server, monkeypatch):
    url = server.serve("/cifar-10-python.tar.gz", small_archive.read_bytes())
    monkeypatch.setattr(sources, "ARCHIVE_URL", url)
    images, warning = load_images("cifar10")
    assert (images.source, warning, len(images.labels)) == ("official archive", None, 120)
    load_images("cifar10")
    assert server.requests == ["GET /cifar-10-python.tar.gz"]  # the second time it is there


@pytest.mark.parametrize("fault", ["wrong checksum", "cut half-way", "404", "server down"])
def test_faulty_download_leaves_nothing_and_falls_back_to_the_mirror(
    no_data, few, small_archive, server, monkeypatch, tmp_path, fault
):
    content = small_archive.read_bytes()
    if fault == "wrong checksum":
        url = server.serve("/archive", content[:-1] + b"x")
    elif fault == "cut half-way":
        url = server.serve("/archive", content[: len(content) // 2], announced=len(content))
    elif fault == "404":
        url = server.url + "nothing-here"
    else:
        url = sources.ARCHIVE_URL  # where nothing listens
    monkeypatch.setattr(sources, "ARCHIVE_URL", url)
    with pytest.raises(RequestError) as error:
        load_images("cifar10")
    expected = {
        "wrong checksum": "wrong checksum",
        "cut half-way": "connection was cut",
        "404": "answers 404",
        "server down": "cannot be reached",
    }[fault]
    assert expected in str(error.value)
    assert "offline=stand_in" in str(error.value)
    assert not [path for path in (no_data / "downloads").glob("*") if path.is_file()]

    write_parquet(tmp_path / "mirror")
    for name in sources.MIRROR_FILES:
        body = (tmp_path / "mirror" / name).read_bytes()
        server.serve(f"/{name}", body)
        server.headers[f"/{name}"] = {"X-Linked-Etag": f'"{hashlib.sha256(body).hexdigest()}"'}
    asked = len(server.requests)
    with pytest.raises(RequestError, match="can"):
        load_images("cifar10")  # the failure is remembered: one process does not try again for every run
    assert len(server.requests) == asked
    monkeypatch.setattr(sources, "MIRROR_URL", server.url)  # another address is asked
    images, _ = load_images("cifar10")
    assert images.source.startswith("parquet mirror")

    # And once the archive's server is well again, the half-done file of before is not in the way.
    good = server.serve("/good", content)
    digest = f"md5:{sources.ARCHIVE_MD5}"
    assert download(good, no_data / "downloads", sources.ARCHIVE_NAME, digest=digest).read_bytes() == content


def test_a_failed_download_is_tried_again_ten_minutes_later(no_data, server, monkeypatch):
    """As in a notebook, whose kernel lives on when the network is back."""
    url = f"{server.url}file"
    with pytest.raises(DownloadError, match="404"):
        download(url, no_data, "file", digest=None)
    server.serve("/file", b"content")
    with pytest.raises(DownloadError, match="404"):
        download(url, no_data, "file", digest=None)
    monkeypatch.setattr("cifar_report.data.download.REMEMBERED", 0)
    assert download(url, no_data, "file", digest=None).read_bytes() == b"content"


def test_mirror_file_other_than_the_server_states_is_refused(no_data, server):
    url = server.serve("/train.parquet", b"something else")
    server.headers["/train.parquet"] = {"X-Linked-Etag": f'"{"0" * 64}"'}
    with pytest.raises(DownloadError, match="wrong checksum"):
        download(url, no_data, "train.parquet", digest=None)
    assert not (no_data / "train.parquet").exists()


def test_downloads_can_be_forbidden(no_data, small_archive, server, monkeypatch):
    url = server.serve("/cifar-10-python.tar.gz", small_archive.read_bytes())
    monkeypatch.setattr(sources, "ARCHIVE_URL", url)
    monkeypatch.setenv("CIFAR_REPORT_OFFLINE", "1")
    with pytest.raises(RequestError, match="switched off"):
        load_images("cifar10")
    assert server.requests == []


@pytest.mark.parametrize("right", [True, False])
def test_a_forbidden_download_asks_nobody_about_a_file_that_is_there(right, tmp_path, server, monkeypatch):
    monkeypatch.setenv("CIFAR_REPORT_OFFLINE", "1")
    (tmp_path / "file").write_bytes(b"content")
    digest = hashlib.sha256(b"content" if right else b"other").hexdigest()
    url = server.serve("/file", b"other")
    for known in (f"sha256:{digest}", f"sha256:{digest[:8]}"):
        if right:
            assert download(url, tmp_path, "file", digest=known).read_bytes() == b"content"
        else:
            with pytest.raises(DownloadError, match="switched off"):
                download(url, tmp_path, "file", digest=known)
    assert download(url, tmp_path, "file", digest=None).read_bytes() == b"content"
    assert server.requests == []


def test_offline_decides_between_error_and_digits(no_data):
    with pytest.raises(RequestError, match="CIFAR-10 is not on this machine"):
        load_images("cifar10", offline="fail")
    images, warning = load_images("cifar10", offline="stand_in")
    assert images.source == "scikit-learn's bundled digits"
    assert warning is not None
    assert "digits" in warning


# Cache


def test_decoded_images_are_memory_mapped_and_shared(no_data):
    load_images("digits")
    images, _ = load_images("digits")
    assert isinstance(images.pixels, np.memmap)


@pytest.mark.parametrize(
    ("name", "content"),
    [("pixels.npy", None), ("pixels.npy", b""), ("labels.npy", b""), ("facts.json", b""), ("facts.json", b"null")],
)
def test_damaged_cache_is_made_again(no_data, name, content):
    before, _ = load_images("digits")
    file = no_data / "datasets" / f"digits-v{cache.FORMAT}" / name
    file.write_bytes(file.read_bytes()[:1000] if content is None else content)
    assert cache.find_images(before.sha256) is None
    images, _ = load_images("digits")
    assert images.pixels.shape == (1797, 3, 32, 32)


def test_images_that_another_process_has_decoded_meanwhile_stay(no_data, monkeypatch):
    real, seen = cache._store, []

    def store(folder, images):  # as if another process were faster
        real(folder, images)
        seen.append((folder / "pixels.npy").stat().st_ino)
        real(folder, images)
        seen.append((folder / "pixels.npy").stat().st_ino)

    monkeypatch.setattr(cache, "_store", store)
    load_images("digits")
    assert seen[0] == seen[1]


def test_zeroed_images_in_the_cache_are_noticed_and_made_again(no_data, monkeypatch):
    """The arrays must have the digest that stands beside them, or a run would record what it never saw."""
    images, _ = load_images("digits")
    folder = no_data / "datasets" / f"digits-v{cache.FORMAT}"
    pixels = np.array(images.pixels)
    pixels[:200] = 0
    np.save(folder / "pixels.npy", pixels)
    monkeypatch.setattr(cache, "_verified", set())  # as in the next process
    again, _ = load_images("digits")
    assert again.sha256 == images.sha256 == sources.content_digest(again.pixels, again.labels)


def test_images_say_where_they_are_from(no_data, small_archive):
    assert load_images("digits")[0].provenance == "bundled"
    assert load_images("cifar10", data_dir=str(small_archive.parent))[0].provenance == "official"


def test_a_copy_changed_behind_its_time_is_read_again(no_data, small_archive):
    folder, times = str(small_archive.parent), small_archive.stat()
    load_images("cifar10", data_dir=folder)
    small_archive.write_bytes(b"x" * times.st_size)
    os.utime(small_archive, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(RequestError, match="damaged"):
        load_images("cifar10", data_dir=folder)


def test_the_archive_is_unpickled_from_the_bytes_that_were_verified(no_data, small_archive, monkeypatch):
    """Whoever replaces the file between the check and the reading changes nothing."""
    verified = sources._verified

    def replaced(file, md5):
        content = verified(file, md5)
        file.write_bytes(b"other")
        return content

    monkeypatch.setattr(sources, "_verified", replaced)
    assert len(sources.read_archive(small_archive, "official archive").labels) > 0


# Splits


LABELS = np.concatenate([np.arange(10).repeat(500), np.arange(10).repeat(100)]).astype(np.uint8)


def test_original_protocol_validates_on_the_test_images():
    train, validation, test = split(LABELS, 5000, validate({}))
    assert np.array_equal(train, np.arange(5000))
    assert np.array_equal(validation, test)
    assert np.array_equal(test, np.arange(5000, 6000))


@pytest.mark.parametrize("limit", [1, 10, 37, 1000, 4999])
def test_limits_are_balanced(limit):
    train, _, test = split(LABELS, 5000, validate({"train_limit": limit, "test_limit": 50}))
    counts = np.bincount(LABELS[train], minlength=10)
    assert counts.sum() == limit
    assert counts.max() - counts.min() <= 1
    assert np.bincount(LABELS[test]).tolist() == [5] * 10


def test_larger_limits_contain_smaller_ones():
    small, large = (set(split(LABELS, 5000, validate({"train_limit": n}))[0]) for n in (123, 456))
    assert small < large


def test_limit_above_the_number_of_images_means_all():
    assert len(split(LABELS, 5000, validate({"test_limit": 10_000}))[2]) == 1000


def test_holdout_is_stratified_fixed_and_disjoint():
    parameters = validate({"validation": "holdout", "holdout_size": 500, "seed": 1})
    train, validation, test = split(LABELS, 5000, parameters)
    assert np.bincount(LABELS[validation]).tolist() == [50] * 10
    assert len(train) == 4500
    assert not set(train) & set(validation)
    assert not set(validation) & set(test)
    again = split(LABELS, 5000, validate({"validation": "holdout", "holdout_size": 500, "seed": 2}))
    assert split_digest(train, validation, test) == split_digest(*again)


def test_holdout_must_leave_something():
    with pytest.raises(RequestError, match="only 5,000 training images"):
        split(LABELS, 5000, validate({"validation": "holdout", "holdout_size": 5000}))


def test_folds_partition_the_training_images():
    parts = [split(LABELS, 5000, validate({"validation": "fold", "folds": 5, "fold": k}))[:2] for k in range(5)]
    assert sorted(np.concatenate([validation for _, validation in parts])) == list(range(5000))
    for train, validation in parts:
        assert sorted(np.concatenate([train, validation])) == list(range(5000))
        assert np.bincount(LABELS[validation]).tolist() == [100] * 10


def test_split_digest_tells_splits_apart():
    one, other = np.array([1, 2]), np.array([3])
    assert split_digest(one, other) != split_digest(np.array([1]), np.array([2, 3]))


# Dataset


def test_dataset_holds_what_its_record_says(tiny):
    dataset = load_dataset(tiny(validation="holdout", holdout_size=200))
    r = dataset.record
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (100, 200, 50)
    assert (r.train_size, r.validation_size, r.test_size, r.name) == (100, 200, 50, "digits")
    assert dataset.train.images.shape == (100, 3, 32, 32)
    images, _ = load_images("digits")
    assert np.array_equal(dataset.test.images.numpy(), images.pixels[images.train_size :][dataset.test_index])


def test_original_protocol_shares_one_split(tiny):
    dataset = load_dataset(tiny())
    assert dataset.validation is dataset.test
