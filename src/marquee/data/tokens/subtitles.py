"""Lines of a comedy series with speakers and times, scene by scene, by the official split.

MELD: Poria et al. 2019, "MELD: A Multimodal Multi-Party Dataset for Emotion Recognition in Conversations", ACL. The
lines belong to their studio: for research only.
"""

import re
from itertools import groupby

from marquee.data.cache import file_sha256
from marquee.data.dataset import Part, Paths
from marquee.data.records import read_records
from marquee.data.sources import RawFile, find
from marquee.data.tokens.dataset import Corpus, TokenData, TokenSource
from marquee.errors import DataError

FILES: dict[Part, str] = {"train": "train", "validation": "dev", "test": "test"}
COLUMNS = {name: name for name in ("Utterance", "Speaker", "Dialogue_ID", "Season", "Episode", "StartTime", "EndTime")}
CLOCK = re.compile(r"^(\d+):(\d\d):(\d\d)[,.](\d{1,3})$")
SPACES = re.compile(r"\s+")


class Subtitles(TokenData):
    """A scene a document, a subtitle a line: `1.5-3.2 Name: what is said`, in seconds from the scene's first line.

    Times are as they were published, also where one is earlier than the one before.
    """

    form_name = "subtitles"

    def source(self, paths: Paths) -> TokenSource:
        found = {}
        for part, name in FILES.items():
            names = (f"meld/{name}_sent_emo.csv.gz", f"meld/{name}_sent_emo.csv")
            raw = RawFile(names, origin=f"data/MELD/{name}_sent_emo.csv of github.com/declare-lab/MELD")
            found[part] = find(raw, paths, "subtitles")

        def read() -> Corpus:
            texts, titles, parts = [], [], []
            for part, path in found.items():
                rows = list(zip(*read_records(path, COLUMNS)))
                for _, scene in groupby(rows, key=lambda row: row[2]):
                    scene = list(scene)
                    first = min(_seconds(row[5], path) for row in scene)
                    lines = [
                        f"{_seconds(start, path) - first:.1f}-{_seconds(end, path) - first:.1f} "
                        f"{SPACES.sub(' ', speaker).replace(':', '')}: {SPACES.sub(' ', words)}"
                        for words, speaker, _, _, _, start, end in scene
                    ]
                    texts.append("\n".join(lines) + "\n")
                    titles.append(f"season {scene[0][3]} episode {scene[0][4]}, dialogue {scene[0][2]} of {part}")
                    parts.append(part)
            return Corpus(texts, titles, parts)

        return TokenSource("subtitles", {part: file_sha256(path) for part, path in found.items()}, read)


def _seconds(time: str, path: object) -> float:
    found = CLOCK.match(time.strip())
    if not found:
        raise DataError(f"{path}: the time {time!r} is not hh:mm:ss,ms.")
    hours, minutes, seconds, milliseconds = map(int, found.groups())  # some have lost the nought before 28 ms
    return 3600 * hours + 60 * minutes + seconds + milliseconds / 1000
