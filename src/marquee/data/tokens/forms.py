"""How texts are written: what can be checked of a form, and the files that it can be turned into."""

import re
from collections.abc import Mapping, Sequence
from statistics import median
from typing import ClassVar
from xml.etree import ElementTree

from marquee.data.tokens.abc import read_tune

Known = Mapping[str, Sequence[str]]


SHORTEST = 0.5  # seconds of a subtitle in a file


class Plain:
    """Text without a form.

    formats  what it can be written as, with the files' endings; `text` is the text itself
    checks   the names of what `check` measures
    of_whole_documents  whether a document without its end cannot be checked
    """

    formats: ClassVar[dict[str, str]] = {"text": ".txt"}
    checks: ClassVar[tuple[str, ...]] = ()
    of_whole_documents: ClassVar[bool] = False

    def known(self, texts: Sequence[str]) -> dict[str, list[str]]:
        """What training texts say that `check` goes by."""
        return {}

    def check(self, texts: Sequence[str], known: Known) -> dict[str, float]:
        """Those of `checks` that can be told of these texts; a text whose end is missing is judged without it."""
        return {}

    def written(self, texts: Sequence[str], format: str) -> str:
        """Texts as a file of one of `formats`; several plain texts stand under headings."""
        if len(texts) == 1:
            return texts[0]
        return "\n\n".join(f"=== {number} ===\n{text}" for number, text in enumerate(texts, start=1)) + "\n"


class Script(Plain):
    """Paragraphs: `NAME:` and what is said in the lines below, stage directions in brackets, headings as they are."""

    formats = {"text": ".txt", "tei": ".xml"}
    checks = ("known_speakers", "closed_directions")
    speaker = re.compile(r"^([A-Z][^\n:\[\]]{0,50}):$", re.M)

    def known(self, texts: Sequence[str]) -> dict[str, list[str]]:
        return {"cast": sorted({name for text in texts for name in self.speaker.findall(text)})}

    def check(self, texts: Sequence[str], known: Known) -> dict[str, float]:
        """known_speakers: of the speaker lines, those that name somebody of the training texts. closed_directions: of
        the brackets that open, those that close before the next opens and within the paragraph."""
        cast = set(known.get("cast", ()))
        names = [name for text in texts for name in self.speaker.findall(text)]
        opened, closed = 0, 0
        for text in texts:
            *paragraphs, last = text.split("\n\n")
            for number, paragraph in enumerate([*paragraphs, last]):
                opens, closes = paragraph.count("["), len(re.findall(r"\[[^\[\]]*\]", paragraph))
                unfinished = number == len(paragraphs) and opens > closes  # where the sample ends
                opened, closed = opened + opens - unfinished, closed + closes
        found = {"known_speakers": sum(name in cast for name in names) / len(names)} if names else {}
        return found | ({"closed_directions": closed / opened} if opened else {})

    def written(self, texts: Sequence[str], format: str) -> str:
        return super().written(texts, format) if format == "text" else tei(texts, self.speaker)


class Subtitles(Plain):
    """A line a subtitle, `1.5-3.2 Name: what is said`, in seconds from the beginning of the scene."""

    formats = {"text": ".txt", "srt": ".srt"}
    checks = ("timed_lines", "increasing_times", "known_speakers", "reading_speed")
    line = re.compile(r"^(\d+\.\d)-(\d+\.\d) ([^:\n]+): (.*)$")

    def lines(self, text: str) -> list[tuple[float, float, str, str]]:
        """Begin, end, speaker and words of the lines that are written so."""
        found = (self.line.match(line) for line in text.split("\n"))
        return [(float(m[1]), float(m[2]), m[3], m[4]) for m in found if m]

    def known(self, texts: Sequence[str]) -> dict[str, list[str]]:
        return {"cast": sorted({name for text in texts for _, _, name, _ in self.lines(text)})}

    def check(self, texts: Sequence[str], known: Known) -> dict[str, float]:
        """timed_lines: those that are written as they should be. increasing_times: of these, those that end after they
        begin, and begin no earlier than the one before. reading_speed: characters a second, the median."""
        cast, whole, lines, speeds, good = set(known.get("cast", ())), 0, [], [], 0
        for text in texts:
            whole += sum(bool(line.strip()) for line in text.split("\n"))
            last = 0.0
            for begin, end, name, words in self.lines(text):
                lines.append(name)
                good += begin < end and begin >= last
                last = begin
                if end > begin:
                    speeds.append(len(words) / (end - begin))
        if not whole:
            return {}
        found = {"timed_lines": len(lines) / whole}
        if lines:
            found["increasing_times"] = good / len(lines)
            found["known_speakers"] = sum(name in cast for name in lines) / len(lines)
        return found | ({"reading_speed": median(speeds)} if speeds else {})

    def written(self, texts: Sequence[str], format: str) -> str:
        if format == "text":
            return super().written(texts, format)
        entries, shift = [], 0.0
        for text in texts:  # several scenes follow each other
            lines = self.lines(text)
            # A player would skip a subtitle that ends before it begins.
            times = [(begin + shift, max(end, begin + SHORTEST) + shift) for begin, end, _, _ in lines]
            entries += [(*time, f"{name}: {words}") for time, (_, _, name, words) in zip(times, lines)]
            shift = max([shift, *(end for _, end, _ in entries)]) + 1
        return srt(entries)


class Poems(Plain):
    """Verse whose lines end in a mark; regular are four or eight lines of five or of seven characters."""

    checks = ("equal_lines", "regular_poems")
    of_whole_documents = True
    lines = re.compile(r"[^，。？！；、：\s]+")

    def check(self, texts: Sequence[str], known: Known) -> dict[str, float]:
        """equal_lines: poems whose lines all have one length. regular_poems: those with 4 or 8 of 5 or 7 characters."""
        shapes = [[len(line) for line in self.lines.findall(text)] for text in texts if text.strip()]
        if not shapes:
            return {}
        equal = [len(set(shape)) == 1 for shape in shapes]
        regular = [same and len(shape) in (4, 8) and shape[0] in (5, 7) for same, shape in zip(equal, shapes)]
        return {"equal_lines": sum(equal) / len(equal), "regular_poems": sum(regular) / len(regular)}


class Tunes(Plain):
    """ABC notation: fields such as `M:3/4`, and behind `K:` the bars."""

    formats = {"text": ".txt", "abc": ".abc", "midi": ".mid", "wav": ".wav"}
    checks = ("headed_tunes", "full_bars", "parsed_tunes")
    of_whole_documents = True

    def check(self, texts: Sequence[str], known: Known) -> dict[str, float]:
        """headed_tunes: those that begin with X:, have M: and K:, and a bar line behind. parsed_tunes: those in which
        every sign can be read. full_bars: share of all bars that are as long as their meter, pick-ups among the rest.
        """
        tunes = [text for text in texts if text.strip()]
        headed = [
            text.startswith("X:") and all(f"\n{field}:" in text for field in "MK") and "|" in text.split("\nK:", 1)[1]
            for text in tunes
        ]
        if not tunes:
            return {}
        read = [read_tune(text) for text in tunes]
        bars = max(sum(len(tune.bars) for tune in read), 1)
        return {
            "headed_tunes": sum(headed) / len(headed),
            "full_bars": sum(tune.full_bars for tune in read) / bars,
            "parsed_tunes": sum(not tune.errors for tune in read) / len(read),
        }

    def written(self, texts: Sequence[str], format: str) -> str:
        return (
            super().written(texts, format) if format == "text" else "\n\n".join(text.strip() for text in texts) + "\n"
        )


FORMS: dict[str, type[Plain]] = {
    "plain": Plain, "script": Script, "subtitles": Subtitles, "poems": Poems, "tunes": Tunes
}  # fmt: skip


def srt(entries: Sequence[tuple[float, float, str]]) -> str:
    """SubRip: number, times, words, an empty line."""
    blocks = [
        f"{number}\n{_clock(begin)} --> {_clock(end)}\n{words}\n"
        for number, (begin, end, words) in enumerate(entries, start=1)
    ]
    return "\n".join(blocks)


def _clock(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02},{rest % 1000:03}"


# What XML 1.0 has no way to write.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def tei(texts: Sequence[str], speaker: re.Pattern[str]) -> str:
    """TEI P5: a `div` a text; `sp` with `speaker` and lines `l`; stage directions are `stage`, other lines `p`."""
    root = ElementTree.Element("TEI", xmlns="http://www.tei-c.org/ns/1.0")
    header = ElementTree.SubElement(ElementTree.SubElement(root, "teiHeader"), "fileDesc")
    title = ElementTree.SubElement(ElementTree.SubElement(header, "titleStmt"), "title")
    title.text = "Generated text"
    for name, words in (("publicationStmt", "Not published."), ("sourceDesc", "Written by a language model.")):
        ElementTree.SubElement(ElementTree.SubElement(header, name), "p").text = words
    body = ElementTree.SubElement(ElementTree.SubElement(root, "text"), "body")
    for text in texts:
        scene = ElementTree.SubElement(body, "div")
        for paragraph in _FORBIDDEN.sub("\ufffd", text).split("\n\n"):
            head, _, rest = paragraph.strip("\n").partition("\n")
            if named := speaker.match(head):
                spoken = ElementTree.SubElement(scene, "sp")
                ElementTree.SubElement(spoken, "speaker").text = named[1]
                _lines(spoken, rest.split("\n"), "l")
            elif paragraph.strip():
                _lines(scene, paragraph.strip("\n").split("\n"), "p")
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _lines(parent: ElementTree.Element, lines: Sequence[str], tag: str) -> None:
    for line in lines:
        if line.startswith("[") and line.endswith("]"):
            ElementTree.SubElement(parent, "stage").text = line[1:-1]
        elif line.strip():
            ElementTree.SubElement(parent, tag).text = line
