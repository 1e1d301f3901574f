"""What somebody wants, in a sentence: the published sets of intents that assistants are measured on."""

import gzip
import json
import zlib
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge

from marquee.data.cache import file_sha256
from marquee.data.dataset import Paths
from marquee.data.records import read_records
from marquee.data.sources import RawFile, find
from marquee.data.text.dataset import Corpus, TextData, TextSource
from marquee.data.text.tokenizer import Kind
from marquee.errors import DataError

OUT_OF_SCOPE = "oos"


class Clinc150(TextData):
    """Requests with 150 intents of ten domains, and such as fit none of them: the class oos, out of scope.

    Larson et al. 2019, "An Evaluation Dataset for Intent Classification and Out-of-Scope Prediction", EMNLP. The parts
    are the published ones: 15,000 + 100 texts to train, 3,000 + 100 to validate, 4,500 + 1,000 to test. The attribute
    `domain` is that of the intent.

    variant  full; small and imbalanced have fewer texts to train; oos_plus has 250 out of scope

    The other parameters are those of every text data set.
    """

    licence = "CC BY 3.0"

    def __init__(
        self,
        *,
        variant: Literal["full", "small", "imbalanced", "oos_plus"] = "full",
        tokenizer: Kind = "word",
        lowercase: bool = True,
        punctuation: bool = True,
        vocabulary_size: Annotated[int, Ge(3)] = 20_000,
        min_count: Annotated[int, Ge(1)] = 1,
    ):
        super().__init__(
            tokenizer=tokenizer,
            lowercase=lowercase,
            punctuation=punctuation,
            vocabulary_size=vocabulary_size,
            min_count=min_count,
        )
        self.variant = variant

    def source(self, paths: Paths) -> TextSource:
        file, domains = f"data_{self.variant}.json", "domains.json"
        origin = "data/{} at https://github.com/clinc/oos-eval"
        names = {file: (f"clinc150/{file}.gz", f"clinc150/{file}"), domains: (f"clinc150/{domains}",)}
        found, known = (
            find(RawFile(names[name], origin=origin.format(name)), paths, "clinc150") for name in (file, domains)
        )
        key = {"file": file_sha256(found), "domains": file_sha256(known)}
        return TextSource("clinc150", key, lambda: _read_clinc(found, known))


def _read_clinc(path: Path, domains: Path) -> Corpus:
    content, by_domain = _json(path), _json(domains)
    names = ("train", "oos_train", "val", "oos_val", "test", "oos_test")
    if not isinstance(content, dict) or (missing := [name for name in names if name not in content]):
        raise DataError(f"{path} has no part {missing[0] if isinstance(content, dict) else names[0]!r}.")
    of_intent = {intent: domain for domain, intents in by_domain.items() for intent in intents}
    rows = [(text, intent, place) for place, name in enumerate(names) for text, intent in content[name]]
    texts, intents, place = zip(*rows, strict=True)
    part = np.asarray(place) // 2
    spoken = [of_intent.get(intent, "none") for intent in intents]
    return Corpus(texts, intents, part == 2, {"domain": spoken}, part == 1)


class Banking77(TextData):
    """Questions of a bank's customers, 77 intents: 10,003 texts to train and 3,080 to test.

    Casanueva et al. 2020, "Efficient Intent Detection with Dual Sentence Encoders", NLP4ConvAI. Validation is cut from
    what is there to train.
    """

    licence = "CC BY 4.0"

    def source(self, paths: Paths) -> TextSource:
        origin = "banking_data/{} at https://github.com/PolyAI-LDN/task-specific-datasets"
        found = {
            part: find(
                RawFile((f"banking77/{part}.csv.gz", f"banking77/{part}.csv"), origin=origin.format(f"{part}.csv")),
                paths,
                "banking77",
            )
            for part in ("train", "test")
        }
        key = {part: file_sha256(path) for part, path in found.items()}
        return TextSource("banking77", key, lambda: _read_banking(found))


def _read_banking(found: dict[str, Path]) -> Corpus:
    columns = {"the column text": "text", "the column category": "category"}
    parts = {part: read_records(path, columns) for part, path in found.items()}
    (texts, intents), (test_texts, test_intents) = parts["train"], parts["test"]
    test = np.arange(len(texts) + len(test_texts)) >= len(texts)
    return Corpus([text.strip() for text in texts + test_texts], intents + test_intents, test)


def _json(path: Path) -> Any:
    try:
        raw = path.read_bytes()
        return json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}). It may be truncated; fetch it again.") from error
