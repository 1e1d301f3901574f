"""Parquet in, Parquet out, a part for each file of the input: the same command again scores only what is missing."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from filelock import FileLock, Timeout
from pyarrow import parquet

from marquee.apply.predictor import export_at, load
from marquee.apply.scoring.rows import MADE, RowError, _loaded, blank, needed, scored
from marquee.errors import ConfigError, DataError, JobError
from marquee.files import replacing, write_text
from marquee.inference.portable.artefact import file_sum
from marquee.inference.predictor import Predictor
from marquee.inference.recommender import RecommendPredictor
from marquee.runs.finding import EXPORT
from marquee.runs.record import read_manifest

Engine = Literal["local", "ray"]
RECORD, LOCK = "_score.json", ".lock"  # readers of Parquet folders leave out names that begin so
EVERYONE = "users"
BATCH = 4096  # rows in memory at a time
USERS_A_PART = 50_000  # of known users, where there is no input


@dataclass(frozen=True)
class Part:
    """One file of the output.

    source  a file of the input; None: known users, those from `first` to `last`
    """

    source: Path | None
    name: str
    first: int = 0
    last: int = 0


@dataclass(frozen=True)
class Asked:
    """What each part is scored with, in any process."""

    run: str
    k: int
    batch: int
    output: str


def score(run: Path, source: Path | None, output: Path, k: int, engine: Engine, batch: int = BATCH) -> tuple[int, int]:
    """Score all that is missing; how many parts were there already, and how many were made.

    source  a folder of .parquet files, or one; None: every known user of a recommender

    Raises ConfigError where `output` holds what another run or another `k` has made, DataError for an input that
    cannot be scored, both before anything is scored; JobError where nothing can be written or another process does so.
    """
    predictor = load(run)
    identity = {**_identity(run), "k": k if isinstance(predictor, RecommendPredictor) else None}
    parts = _of_users(predictor, identity) if source is None else _of_files(predictor, source, output, identity)
    try:
        output.mkdir(parents=True, exist_ok=True)
        with FileLock(output / LOCK, timeout=0):
            _claim(output, identity)
            for left in output.glob(".part-*"):  # of a process that was killed; nobody else is here
                left.unlink()
            missing = [part for part in parts if not (output / part.name).exists()]
            asked = Asked(str(run), k, batch, str(output))
            ENGINES[engine](missing, asked)
    except Timeout:
        raise JobError(f"{output} is being written by another marquee score. Wait for it, or choose another.") from None
    except OSError as error:
        raise JobError(f"{output} cannot be written: {error.strerror or error}.") from error
    return len(parts) - len(missing), len(missing)


def _identity(run: Path) -> dict[str, Any]:
    """Of a run or an export: what must be the same for a part to be the same."""
    if (exported := export_at(run)) is None:
        manifest = read_manifest(run)
        weights = (manifest.get("checkpoint") or {}).get("weights_sha256")
        return {"run": manifest["id"], "fingerprint": manifest["fingerprint"], "model_sha256": weights}
    record = (exported if exported.is_dir() else exported.parent) / EXPORT
    if record.is_file() and (exported.is_dir() or exported.name == json.loads(record.read_text())["model"]):
        told = json.loads(record.read_text(encoding="utf-8"))
        return {name: told[name] for name in ("run", "fingerprint", "model_sha256")}
    total = file_sum(exported)
    return {"run": exported.name, "fingerprint": total, "model_sha256": total}


def _claim(output: Path, identity: Mapping[str, Any]) -> None:
    """Write down whose parts the folder holds, or refuse where they are others'."""
    file = output / RECORD
    if not file.exists():
        if any(path.suffix == ".parquet" for path in output.iterdir()):
            raise ConfigError(
                f"{output} holds Parquet files that marquee score has not written. Choose another folder."
            )
        write_text(file, json.dumps(identity, indent=1) + "\n")
        return
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file} is damaged ({error}). Remove the folder, or choose another.") from None
    for name, value in identity.items():
        if found.get(name) != value:
            raise ConfigError(
                f"{output} holds what was scored with {name} {found.get(name)}, and this is {value}. "
                "Choose another --output, or remove that folder."
            )


# What there is to do -------------------------------------------------------------------------------------------------


def _of_users(predictor: Predictor, identity: Mapping[str, Any]) -> list[Part]:
    if not isinstance(predictor, RecommendPredictor):
        raise ConfigError(f"This run {predictor.does}: --input names what is to be scored.")
    n, own = len(predictor.users), identity["fingerprint"][:8]
    return [
        Part(None, f"part-{own}-{EVERYONE}-{first:09d}.parquet", first, min(first + USERS_A_PART, n))
        for first in range(0, n, USERS_A_PART)
    ]


def _of_files(predictor: Predictor, source: Path, output: Path, identity: Mapping[str, Any]) -> list[Part]:
    """A part for each file, named by the run and the file's content; all schemas are looked at first."""
    if source.is_dir():
        files = sorted(path for path in source.rglob("*.parquet") if not path.name.startswith((".", "_")))
        if not files:
            raise DataError(f"{source} holds no .parquet file.")
    elif source.is_file():
        files = [source]
    else:
        raise DataError(f"--input {source} does not exist. It takes a folder of .parquet files, or one of them.")
    if source.resolve() == output.resolve():
        raise ConfigError(f"--input and --output are one folder, {source}.")
    if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
        raise ConfigError(
            f"--output {output} lies inside --input {source}, where its parts would be scored, too. Choose another."
        )
    first, found, parts, times = files[0], None, [], {}
    for file in files:
        try:
            schema = parquet.read_schema(file).remove_metadata()
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{file} is no readable Parquet file (sha256 {file_sum(file)}): {error}") from None
        if twice := next((name for name in schema.names if schema.names.count(name) > 1), None):
            raise DataError(f"{file} has two columns {twice}. Give each column a name of its own.")
        if found is not None and schema != found:
            raise DataError(f"{file} has other columns than {first}:\n  {_schema(schema)}\n  {_schema(found)}")
        found = schema
        total = file_sum(file)
        times[total] = times.get(total, 0) + 1  # the same rows in two files are scored twice
        again = f"-{times[total]}" if times[total] > 1 else ""
        parts.append(Part(file, f"part-{identity['fingerprint'][:8]}-{total[:16]}{again}.parquet"))
    try:
        _refuse_types(needed(predictor, found.names), found)
    except DataError as error:
        raise DataError(f"{first}: {error}.") from None
    return parts


def _refuse_types(column: str, schema: pa.Schema) -> None:
    kind = schema.field(column).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    fits = {
        "history": is_list, "text": is_text, "image": is_text or is_bytes, "user": is_text or pa.types.is_integer(kind),
    }[column]  # fmt: skip
    if not fits:
        takes = {"history": "lists", "text": "text", "image": "bytes or paths", "user": "text or integers"}[column]
        raise DataError(f"column {column} is of the type {kind}; read are {takes}")


def _schema(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)


# Doing it ------------------------------------------------------------------------------------------------------------


def make_part(part: Part, asked: Asked) -> int:
    """Score one part into its file, a batch at a time, and put that into its place in one step; its rows."""
    target, rows = Path(asked.output) / part.name, 0
    base = None if part.source is None else part.source.parent
    predictor = _loaded(asked.run)
    read: list[pa.Table] = []  # the batch whose column is being scored
    with replacing(target) as temporary:
        writer = None
        try:
            for table in scored(_frames(part, asked, predictor, read), asked.run, asked.k, base):
                arrow = _beside(read.pop(), table, predictor)
                if writer is None:
                    writer = parquet.ParquetWriter(temporary, arrow.schema)
                writer.write_table(arrow.cast(writer.schema))
                rows += len(table)
        except RowError as error:
            raise DataError(
                f"{part.source or 'known users'}, row {rows + error.row}: {error.told} Mend or leave out such rows; "
                "what is scored stays."
            ) from None
        except DataError as error:
            raise DataError(f"{part.source or 'known users'}, from row {rows} on: {error}") from None
        finally:
            if writer is not None:
                writer.close()
        if writer is None:  # an input without rows: the columns that others have
            schema = parquet.read_schema(part.source).remove_metadata()
            parquet.write_table(_beside(schema.empty_table(), blank(predictor, schema.names), predictor), temporary)
    return rows


def _frames(part: Part, asked: Asked, predictor: Predictor, read: list[pa.Table]) -> Iterator[pd.DataFrame]:
    """The column that is scored, alone: what else a row has stays as Arrow has it, and is put into `read`."""
    if part.source is not None:
        with parquet.ParquetFile(part.source) as file:
            for batch in file.iter_batches(batch_size=asked.batch):
                read.append(pa.Table.from_batches([batch]).replace_schema_metadata())
                yield read[-1].select([needed(predictor, batch.schema.names)]).to_pandas()
        return
    for first in range(part.first, part.last, asked.batch):
        frame = pd.DataFrame({"user": predictor.users[first : min(first + asked.batch, part.last)]})
        read.append(pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata())
        yield frame


def _beside(read: pa.Table, table: pd.DataFrame, predictor: Predictor) -> pa.Table:
    """A batch as it was read with what was made of it, of the same types whatever stands in the batch."""
    column = needed(predictor, read.column_names)
    made = pa.Table.from_pandas(table.drop(columns=column, errors="ignore"), preserve_index=False)
    if isinstance(predictor, RecommendPredictor):  # lists that are all empty tell no type
        ids = predictor.known.item_ids
        kinds = pa.int64() if ids.dtype.kind in "iu" else pa.string(), pa.float64()
        made = made.cast(pa.schema([(name, pa.list_(kind)) for name, kind in zip(MADE, kinds)]))
    gone = {*made.column_names, *([column] if column not in table else [])}
    found = read.select([name for name in read.column_names if name not in gone])
    for name in made.column_names:
        found = found.append_column(name, made[name])
    return found


def _local(parts: list[Part], asked: Asked) -> None:
    for part in parts:
        make_part(part, asked)


def _ray(parts: list[Part], asked: Asked) -> None:
    """A task for each part, through Ray Data; what a task returns is only its name and its rows."""
    if not parts:
        return
    try:
        import ray
    except ModuleNotFoundError:
        raise ConfigError("--engine ray needs the package ray, which comes with pip install 'marquee[ray]'") from None
    asked = Asked(str(Path(asked.run).resolve()), asked.k, asked.batch, str(Path(asked.output).resolve()))
    began = not ray.is_initialized()
    if began:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        numbers = ray.data.range(len(parts), override_num_blocks=len(parts))

        def score_parts(batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
            wrong = []
            for number in batch["id"].tolist():
                try:
                    make_part(parts[number], asked)
                except DataError as error:  # told here: Ray would show its own way through the workers
                    wrong.append(str(error))
            return {"wrong": wrong}

        found = [row["wrong"] for row in numbers.map_batches(score_parts, batch_size=1).take_all()]
    except ray.exceptions.RayError as error:
        raise JobError(f"a task of Ray failed: {error}") from None
    finally:
        if began:
            ray.shutdown()
    if found:
        raise DataError("\n".join(found))


ENGINES: dict[str, Callable[[list[Part], Asked], None]] = {"local": _local, "ray": _ray}
