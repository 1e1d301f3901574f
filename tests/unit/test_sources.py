"""Raw files are found, or downloaded and resumed, and never taken unverified. All servers here are on 127.0.0.1."""

import hashlib
import io
import subprocess
import sys
import tarfile
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from marquee.data.dataset import Paths
from marquee.data.sources import Archive, RawFile, find, unpack
from marquee.errors import DataError

RATINGS = b"1\t10\t5\n" * 2000


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


CONTENT = zipped({"toy/ratings.dat": RATINGS, "toy/README": b"made up"})


@contextmanager
def server(content=CONTENT, ranges=True, breaks_after=None):
    """Serves `content`; breaks off the first answer after some bytes. Yields (url, list of Range headers seen)."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            seen.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and ranges else 0
            if start >= len(content):
                self.send_response(416)
                self.end_headers()
                return
            self.send_response(206 if asked and ranges else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            end = breaks_after if breaks_after and len(seen) == 1 else len(content)
            self.wfile.write(content[start:end])

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/toy.zip", seen
    finally:
        http.shutdown()
        http.server_close()


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "data").mkdir()
    return Paths(tmp_path / "data", tmp_path / "cache")


MD5 = hashlib.md5(CONTENT).hexdigest()


def raw(url="http://127.0.0.1:9/toy.zip", md5=MD5, **options):
    return RawFile(("toy/ratings.dat", "ratings.dat"), archive=Archive("toy.zip", url, md5=md5), **options)


def test_a_file_in_the_data_folder_is_taken_first_and_by_the_order_of_names(paths):
    (paths.data / "ratings.dat").write_bytes(RATINGS)
    assert find(raw(), paths, "toy") == paths.data / "ratings.dat"
    (paths.data / "toy").mkdir()
    (paths.data / "toy" / "ratings.dat").write_bytes(RATINGS)
    assert find(raw(), paths, "toy") == paths.data / "toy" / "ratings.dat"
    assert not paths.cache.exists()


def test_a_file_with_a_wrong_checksum_is_refused_with_both_sums(paths):
    expected = hashlib.sha256(RATINGS).hexdigest()
    (paths.data / "ratings.dat").write_bytes(RATINGS[:-3])
    found = hashlib.sha256(RATINGS[:-3]).hexdigest()
    with pytest.raises(DataError, match=f"{found}.*{expected}"):
        find(raw(sha256=(expected,)), paths, "toy")
    (paths.data / "ratings.dat").write_bytes(RATINGS)
    assert find(raw(sha256=("0" * 64, expected)), paths, "toy").read_bytes() == RATINGS


def test_an_empty_file_is_refused(paths):
    (paths.data / "ratings.dat").write_bytes(b"")
    with pytest.raises(DataError, match="is empty"):
        find(raw(), paths, "toy")


def test_a_missing_file_names_places_address_and_checksum(paths):
    with pytest.raises(DataError) as error:
        find(raw(), paths, "toy")
    message = str(error.value)
    for part in (
        "toy/ratings.dat",
        "ratings.dat",
        "toy.zip",
        "http://127.0.0.1:9/toy.zip",
        f"md5 {MD5}",
        "paths.data=",
        "resume",
    ):
        assert part in message
    with pytest.raises(DataError, match=r"needs u\.data(.|\n)*MARQUEE_DATA"):
        find(RawFile(("u.data",)), paths, "toy")


def test_an_archive_in_the_data_folder_is_unpacked_into_the_cache(paths):
    (paths.data / "toy.zip").write_bytes(CONTENT)
    found = find(raw(member="toy/ratings.dat"), paths, "toy")
    assert found.read_bytes() == RATINGS and paths.cache in found.parents
    assert sorted(path.name for path in paths.data.iterdir()) == ["toy.zip"]  # which may be read-only
    assert find(raw(member="toy/README"), paths, "toy").read_bytes() == b"made up"


def test_an_archive_with_a_wrong_checksum_is_refused(paths):
    (paths.data / "toy.zip").write_bytes(CONTENT[:-10])
    with pytest.raises(DataError, match="toy.zip is not the published file"):
        find(raw(member="toy/ratings.dat"), paths, "toy")


def test_a_renewed_archive_without_published_sum_is_unpacked_again(paths):
    source = raw(md5=None, member="toy/ratings.dat")
    (paths.data / "toy.zip").write_bytes(CONTENT)
    assert find(source, paths, "toy").read_bytes() == RATINGS
    (paths.data / "toy.zip").write_bytes(zipped({"toy/ratings.dat": b"new"}))
    assert find(source, paths, "toy").read_bytes() == b"new"


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "plain server"])
def test_a_download_is_verified_unpacked_and_made_once(paths, ranges):
    with server(ranges=ranges) as (url, seen):
        source = raw(url, member="toy/ratings.dat")
        assert find(source, paths, "toy").read_bytes() == RATINGS
        assert find(source, paths, "toy").read_bytes() == RATINGS
    assert seen == [None]


def test_a_download_without_member_is_the_file_itself(paths):
    with server() as (url, _):
        assert find(raw(url), paths, "toy").read_bytes() == CONTENT


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "plain server"])
def test_an_interrupted_download_resumes_where_the_server_can(paths, ranges):
    part = paths.cache / "raw" / "toy.zip.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:100])
    with server(ranges=ranges) as (url, seen):
        assert find(raw(url), paths, "toy").read_bytes() == CONTENT
    assert seen == ["bytes=100-"]
    assert not part.exists()


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "plain server"])
def test_a_connection_that_breaks_off_is_taken_up_again(paths, ranges):
    with server(ranges=ranges, breaks_after=150) as (url, seen):
        assert find(raw(url), paths, "toy").read_bytes() == CONTENT
    assert seen == [None, "bytes=150-"]


def test_a_part_of_another_edition_is_thrown_away(paths):
    part = paths.cache / "raw" / "toy.zip.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * (len(CONTENT) + 50))
    with server() as (url, seen):
        assert find(raw(url), paths, "toy").read_bytes() == CONTENT
    assert seen == [f"bytes={len(CONTENT) + 50}-", None]


def test_a_download_with_a_wrong_checksum_is_refused_and_not_kept(paths):
    with server(content=b"a login page") as (url, _), pytest.raises(DataError, match="not the published file"):
        find(raw(url, member="toy/ratings.dat"), paths, "toy")
    assert {path.suffix for path in (paths.cache / "raw").iterdir()} <= {".lock"}


def test_two_that_download_at_once_share_one_download(paths):
    with server() as (url, seen):
        threads = [
            threading.Thread(target=find, args=(raw(url, member="toy/ratings.dat"), paths, "toy")) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert find(raw(url, member="toy/ratings.dat"), paths, "toy").read_bytes() == RATINGS
    assert seen == [None]


def test_a_download_that_cannot_be_kept_names_the_cache(paths):
    paths.cache.mkdir()
    (paths.cache / "raw").write_text("a file where a folder should be")
    with server() as (url, _), pytest.raises(DataError, match=r"cannot be kept in .*paths\.cache="):
        find(raw(url), paths, "toy")


def test_interaction_data_needs_no_torch():
    modules = "marquee.data.interactions.movielens, marquee.data.interactions.known"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "..\\evil"])
def test_a_member_that_leaves_the_folder_refuses_the_whole_archive(tmp_path, name):
    (tmp_path / "toy.zip").write_bytes(zipped({"good": b"1", name: b"2"}))
    with tarfile.open(tmp_path / "toy.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("good"), io.BytesIO())
        archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    for archive in ("toy.zip", "toy.tar.gz"):
        with pytest.raises(DataError, match="outside its folder"):
            unpack(tmp_path / archive, tmp_path / "out")
    assert not (tmp_path / "out" / "good").exists()


def test_links_in_an_archive_are_refused(tmp_path):
    with tarfile.open(tmp_path / "toy.tar", "w") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
    with pytest.raises(DataError, match="links"):
        unpack(tmp_path / "toy.tar", tmp_path / "out")


def test_zip_and_tar_are_unpacked_and_truncated_ones_refused(tmp_path):
    (tmp_path / "toy.zip").write_bytes(CONTENT)
    unpack(tmp_path / "toy.zip", tmp_path / "zip")
    assert (tmp_path / "zip" / "toy" / "ratings.dat").read_bytes() == RATINGS
    with tarfile.open(tmp_path / "toy.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "zip" / "toy", "toy")
    unpack(tmp_path / "toy.tar.gz", tmp_path / "tar")
    assert (tmp_path / "tar" / "toy" / "ratings.dat").read_bytes() == RATINGS
    for name in ("toy.zip", "toy.tar.gz"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match="truncated|damaged"):
            unpack(tmp_path / name, tmp_path / "half")
