"""Bring your own music: a folder of MIDI files, on a grid of so many frames a quarter note."""

import logging
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Interval

from marquee.data.cache import file_sha256
from marquee.data.dataset import Paths
from marquee.data.rolls.dataset import RollData, Rolls, RollSource
from marquee.data.spec import RollSpec
from marquee.errors import ConfigError, DataError

log = logging.getLogger(__name__)

MOST_TRACKS, MOST_FRAMES = 128, 200_000
LOWEST, KEYS = 21, 88


class Midi(RollData):
    """MIDI files of one's own (.mid, .midi), below a folder; drums are left out.

    path             of the folder
    frames           a quarter note: 1 for chorales, 4 for what has sixteenths
    skip_unreadable  leave out files that are broken, without notes or too large, and count them; false: name the first

    Raises ConfigError where the package mido is missing, DataError for what cannot be read.
    """

    def __init__(self, *, path: str, frames: Annotated[int, Interval(ge=1, le=24)] = 4, skip_unreadable: bool = False):
        self.path, self.frames_per_quarter, self.skip_unreadable = path, frames, skip_unreadable
        self.unreadable: list[str] = []

    def source(self, paths: Paths) -> RollSource:
        folder = next((path for path in (Path(self.path).expanduser(), paths.data / self.path) if path.is_dir()), None)
        if folder is None:
            raise DataError(
                f"The folder {self.path} does not exist. Looked for {Path(self.path).expanduser().absolute()} and "
                f"{paths.data / self.path}."
            )
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in (".mid", ".midi"))
        if not files:
            raise DataError(f"{folder} holds no .mid or .midi file.")
        key = {
            "files": {str(file.relative_to(folder)): file_sha256(file) for file in files},
            "frames": self.frames_per_quarter,
            "skip": self.skip_unreadable,
        }
        spec = RollSpec(frames_per_quarter=self.frames_per_quarter)
        return RollSource("midi", key, lambda: self._read(folder, files), spec)

    def _read(self, folder: Path, files: list[Path]) -> Rolls:
        pieces, names = [], []
        for file in files:
            try:
                pieces.append(read_midi(file, self.frames_per_quarter))
                names.append(str(file.relative_to(folder)))
            except DataError as error:
                if not self.skip_unreadable:
                    raise DataError(f"{error}\n  fix: take it away, or type data.skip_unreadable=true") from error
                self.unreadable.append(str(error))
        if self.unreadable:
            log.warning("data=midi: %d files are left out; the first: %s", len(self.unreadable), self.unreadable[0])
        if not pieces:
            raise DataError(f"{folder}: none of {len(files)} files can be read. The first: {self.unreadable[0]}")
        return Rolls(pieces, names)


def read_midi(path: Path, frames_per_quarter: int) -> np.ndarray:
    """Which keys sound in each frame, uint8 [frames, 88]: a note sounds from the frame nearest to its beginning, for a
    frame at least, to the one nearest to its end. Notes outside of the 88 keys are left out, and so are drums.

    Raises DataError for a file that is no MIDI, has no notes, more than MOST_TRACKS tracks or MOST_FRAMES frames.
    """
    mido = package()
    try:
        song = mido.MidiFile(path)
    except Exception as error:  # mido raises what its parser meets: OSError, ValueError, EOFError, IndexError, KeyError
        raise DataError(f"{path} is no MIDI file that can be read ({type(error).__name__}: {error}).") from error
    if len(song.tracks) > MOST_TRACKS:
        raise DataError(f"{path} has {len(song.tracks)} tracks; up to {MOST_TRACKS} are read.")
    if song.ticks_per_beat <= 0:
        raise DataError(f"{path} counts time in frames of film, and not in quarter notes, which is not read.")
    per_tick, notes = frames_per_quarter / song.ticks_per_beat, []
    for track in song.tracks:
        now, open_ = 0, {}
        for message in track:
            now += message.time
            if message.type not in ("note_on", "note_off") or message.channel == 9:
                continue
            place = (message.channel, message.note)
            if message.type == "note_on" and message.velocity > 0:
                if place in open_:  # struck again before it was let go
                    notes.append((message.note, open_[place], now))
                open_[place] = now
            elif place in open_:
                notes.append((message.note, open_.pop(place), now))
        notes += [(note, begin, now) for (_, note), begin in open_.items()]
    notes = [note for note in notes if LOWEST <= note[0] < LOWEST + KEYS]
    if not notes:
        raise DataError(f"{path} has no notes on the 88 keys of a piano.")
    # In whole numbers, which have no largest one: a broken file may wait for ever.
    frames = max(end for _, _, end in notes) * frames_per_quarter // song.ticks_per_beat
    if frames > MOST_FRAMES:
        raise DataError(
            f"{path} has {min(frames, 10**15):,} frames; up to {MOST_FRAMES:,} are read. Lower data.frames."
        )
    keys, begins, ends = (np.array(column) for column in zip(*notes, strict=True))
    first = np.floor(begins * per_tick + 0.5).astype(np.int64)
    last = np.maximum(np.floor(ends * per_tick + 0.5).astype(np.int64), first + 1)
    # A note's beginning counts one up and its end one down: where the sum is above 0 it sounds.
    change = np.zeros((int(last.max()) + 1, KEYS), dtype=np.int32)
    np.add.at(change, (first, keys - LOWEST), 1)
    np.add.at(change, (last, keys - LOWEST), -1)
    return (np.cumsum(change, axis=0)[:-1] > 0).astype(np.uint8)


def package():
    """The package mido. Raises ConfigError where it is not installed."""
    try:
        import mido
    except ModuleNotFoundError:
        raise ConfigError("MIDI files need the package mido.\n  fix: pip install 'marquee[music]'") from None
    return mido
