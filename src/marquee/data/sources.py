"""Raw files: found in the data folder, else in an archive there, else downloaded; verified before anyone reads them."""

import hashlib
import logging
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from marquee.data.cache import file_sha256
from marquee.data.dataset import Paths
from marquee.data.download import download
from marquee.errors import DataError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Archive:
    """A published file and its sums, as its publisher or a second source gives them."""

    name: str
    url: str
    md5: str | None = None
    sha256: str | None = None

    @property
    def checksum(self) -> str:
        return f"sha256 {self.sha256}" if self.sha256 else f"md5 {self.md5}" if self.md5 else "none published"


@dataclass(frozen=True)
class RawFile:
    """One file that a data set needs.

    names    where it may lie, relative to `paths.data`; the first that exists is taken
    sha256   sums that are accepted for a file lying there; empty accepts any
    archive  what to download where the file is not there
    member   the file's path inside the archive; None where the download is the file itself
    origin   in words, where a file comes from that nobody offers as it is needed here
    """

    names: tuple[str, ...]
    sha256: tuple[str, ...] = ()
    archive: Archive | None = None
    member: str | None = None
    origin: str = ""


def find(raw: RawFile, paths: Paths, dataset: str) -> Path:
    """The verified file. Looks in `paths.data`, then for the archive there, then in `paths.cache/raw`, then downloads.

    Raises DataError, naming all of that, where the file cannot be had or is not what it should be.
    """
    for name in raw.names:
        path = paths.data / name
        if path.is_file():
            verify(path, raw.sha256)
            return path
    if raw.archive is None:
        raise DataError(_missing(raw, paths, dataset))

    archive = paths.data / raw.archive.name
    if not archive.is_file():
        archive = paths.cache / "raw" / raw.archive.name
        if not archive.is_file() and (unpacked := _unpacked(raw, paths)):
            return unpacked
    if not archive.is_file():
        try:
            download(raw.archive.url, archive, lambda path: _damage(path, raw.archive))
        except DataError as error:
            raise DataError(f"{_missing(raw, paths, dataset)}\nThe download failed: {error}") from error
    return _from_archive(raw, archive, paths)


def verify(path: Path, sha256: tuple[str, ...]) -> None:
    """Raise DataError unless the file's sha256 is one of those accepted (none given accepts any but an empty file)."""
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty. Delete it, and it is downloaded again, or put the whole file there.")
    if sha256 and (found := file_sha256(path)) not in sha256:
        raise DataError(
            f"{path} is not the published file: its sha256 is {found}, expected {' or '.join(sha256)}. "
            "It may be truncated or changed; put the original there, or move it away to have it downloaded."
        )


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar archive into `folder`. A member that would leave the folder, or a link, refuses all of it."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as content:
                _refuse_escapes(archive, [member.filename for member in content.infolist()])
                content.extractall(folder)
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as content:
                members = content.getmembers()
                _refuse_escapes(archive, [member.name for member in members])
                if odd := [member.name for member in members if not (member.isfile() or member.isdir())]:
                    raise DataError(f"{archive} holds links or devices ({odd[0]}), which are not unpacked.")
                for member in members:  # plain permissions: an archive's own may make a folder unreadable
                    member.mode = 0o755 if member.isdir() else 0o644
                    content.extract(member, folder)
        else:
            raise DataError(
                f"{archive} is neither a zip nor a tar archive. It may be truncated; delete it and try again."
            )
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise DataError(f"{archive} is damaged ({error}). Delete it and try again.") from error


def _from_archive(raw: RawFile, archive: Path, paths: Paths) -> Path:
    if unpacked := _unpacked(raw, paths, archive):
        return unpacked
    if damage := _damage(archive, raw.archive):
        raise DataError(f"{archive} {damage}. Delete it to have it downloaded from {raw.archive.url}.")
    if raw.member is None:
        return archive
    folder = _folder(raw.archive, paths, archive)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise DataError(
            f"paths.cache={paths.cache} cannot be written ({error.strerror}), and {archive} is unpacked there. "
            "Name a writable folder with paths.cache=FOLDER."
        ) from error
    try:
        unpack(archive, temporary)
        if not (temporary / raw.member).is_file():
            raise DataError(f"{archive} has no member {raw.member}; it is not the published {raw.archive.name}.")
        temporary.chmod(0o755)
        if folder.exists() and not (folder / raw.member).is_file():
            shutil.rmtree(folder, ignore_errors=True)
        try:
            os.rename(temporary, folder)
        except OSError:
            if not (folder / raw.member).is_file():  # else another process has just unpacked it
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder / raw.member


def _unpacked(raw: RawFile, paths: Paths, archive: Path | None = None) -> Path | None:
    """The member where it has been unpacked before, else None."""
    if raw.member is None or (archive is None and not (raw.archive.md5 or raw.archive.sha256)):
        return None
    path = _folder(raw.archive, paths, archive) / raw.member
    return path if path.is_file() else None


def _folder(archive: Archive, paths: Paths, path: Path | None) -> Path:
    """Unpacked archives are told apart by their sum, so that a newer edition is not taken for an older one."""
    checksum = archive.sha256 or archive.md5 or file_sha256(path)
    return paths.cache / "raw" / f"{PurePosixPath(archive.name).name.split('.')[0]}-{checksum[:12]}"


def _damage(path: Path, archive: Archive) -> str | None:
    """What is wrong with an archive, or None."""
    if path.stat().st_size == 0:
        return "is empty"
    for algorithm, expected in (("sha256", archive.sha256), ("md5", archive.md5)):
        if expected:
            found = file_sha256(path) if algorithm == "sha256" else hashlib.md5(path.read_bytes()).hexdigest()
            if found != expected:
                return f"is not the published file: its {algorithm} is {found}, expected {expected}"
    return None


def _refuse_escapes(archive: Path, names: list[str]) -> None:
    for name in names:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in path.parts[:1]:
            raise DataError(
                f"{archive} holds {name!r}, which would be written outside its folder. It was not unpacked."
            )


def _missing(raw: RawFile, paths: Paths, dataset: str) -> str:
    looked = [f"  {paths.data / name}" for name in raw.names]
    lines = [f"The data set {dataset} needs {raw.names[0]}. Looked for:", *looked]
    if raw.archive is None:
        lines += [f"Published as {raw.origin}."] * bool(raw.origin)
        lines.append("Put the file there, or name another folder with paths.data=FOLDER or MARQUEE_DATA.")
        return "\n".join(lines)
    lines += [
        f"  {paths.data / raw.archive.name}",
        f"  {paths.cache / 'raw' / raw.archive.name}",
        f"Published at {raw.archive.url} (checksum: {raw.archive.checksum}).",
        "Without a network, download it elsewhere and put it into one of these places,",
        "or name another folder with paths.data=FOLDER or MARQUEE_DATA.",
    ]
    return "\n".join(lines)
