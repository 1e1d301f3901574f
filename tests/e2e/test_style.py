"""The budgets that keep the project readable: documented YAML, short files, mirrored folders, light imports."""

import ast
import re
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
CONF, SOURCE = REPOSITORY / "conf", REPOSITORY / "src" / "marquee"
LONGEST = 350  # lines; a file has one subject and rarely passes 300
HEAVY = {"torch", "pytorch_lightning", "pandas", "wandb", "torchmetrics", "scipy", "sklearn"}
# What `--help`, `--cfg`, `ls`, `show` and `diff` import must stay light.
LIGHT = [*sorted(f"cli/{file.name}" for file in (SOURCE / "cli").glob("*.py")), "errors.py", "files.py", "__init__.py",
         "__main__.py", "config/compose.py", "config/targets.py", "config/values.py", "config/schema.py",
         "config/fingerprint.py", "config/check.py", "config/build.py", "runs/resume.py", "runs/ledger.py",
         "runs/record.py", "runs/finding.py", "runs/liveness.py", "runs/listing.py", "runs/threads.py", "runs/code.py",
         "runs/environment.py"]  # fmt: skip


def options(group):
    return sorted(file.relative_to(CONF).as_posix() for file in (CONF / group).rglob("*.yaml"))


def uncommented(text):
    """The keys of a YAML text that have no comment: on their line, above them, or on each key below them."""
    missing, lines = [], text.splitlines()
    for number, line in enumerate(lines):
        key = re.match(r"( *)([\w.]+):(.*)", line)
        if not key or key[2] in ("_target_", "defaults") or "#" in line:
            continue
        above = number > 0 and lines[number - 1].lstrip().startswith("#") and number > 1
        opens = not key[3].strip() and number + 1 < len(lines) and lines[number + 1].startswith(key[1] + " ")
        if not above and not opens:
            missing.append(key[2])
    return missing


def test_the_reader_of_comments_finds_what_is_missing():
    assert uncommented(
        "# A model.\n_target_: x\nview:\n  _target_: y\n  size: 3\ndim: 4  # width\n# why\nlast: 1\n"
    ) == ["size"]


@pytest.mark.parametrize("file", [*options("model"), *options("data"), *options("split"), *options("task")])
def test_every_key_a_user_can_set_is_explained_where_it_stands(file):
    text = (CONF / file).read_text(encoding="utf-8")
    assert text.startswith("# "), f"{file} opens without a sentence that says what it is"
    assert uncommented(text) == []


def test_every_experiment_states_its_command_its_minutes_and_the_result_to_expect():
    for file in options("experiment"):
        if file.startswith("experiment/replicate/"):  # their heads say more: tests/unit/test_replications.py
            continue
        text = (CONF / file).read_text(encoding="utf-8")
        head = "\n".join(line for line in text.splitlines()[:12] if line.startswith("#"))
        name = Path(file).relative_to("experiment").with_suffix("").as_posix()
        assert f"marquee train experiment={name}" in head, f"{file}: no command"
        assert re.search(r"Minutes: +\d+(\.\d+)? on 2 cores", head), f"{file}: no time"
        assert re.search(r"\d\.\d+ ?(±|\+-|\+/-) ?\d\.\d+", head), f"{file}: no expected metric ± tolerance"


def test_no_source_file_is_long():
    files = [
        *SOURCE.rglob("*.py"),
        *(REPOSITORY / "scripts").rglob("*.py"),
        *(REPOSITORY / "src" / "hydra_plugins").rglob("*.py"),
    ]
    long = {file.name: n for file in files if (n := len(file.read_text(encoding="utf-8").splitlines())) > LONGEST}
    assert long == {}


def test_every_source_file_says_in_its_first_sentence_what_it_is_for():
    silent = []
    for file in SOURCE.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if text.strip() and not (ast.get_docstring(ast.parse(text)) or "").split("\n")[0].strip():
            silent.append(file.relative_to(SOURCE).as_posix())
    assert silent == []


def test_every_public_class_opens_with_one_summary_line():
    """Parameters, shapes and sources come behind it."""
    wrong = []
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
                continue
            first, _, rest = (ast.get_docstring(node) or "").partition("\n")
            if not first.endswith((".", ":")) or rest.partition("\n")[0].strip():
                wrong.append(f"{file.relative_to(SOURCE).as_posix()}: {node.name}")
    assert wrong == []


def test_conf_and_source_have_the_same_folders():
    """A family of models and a file of conf/model are a folder and a file of src/marquee/models, and so are tasks.

    An ensemble is the exception: it opens finished runs, which no room as low as the models may.
    """
    for file in options("model"):
        target = yaml.safe_load((CONF / file).read_text(encoding="utf-8"))["_target_"]
        _, family, name = Path(file).with_suffix("").parts
        home = "marquee.inference.ensemble" if family == "ensemble" else f"marquee.models.{family}.{name}"
        assert target.rpartition(".")[0] == home, file
    families = {folder.name for folder in (SOURCE / "models").iterdir() if (folder / "__init__.py").exists()}
    assert {*families, "ensemble"} == {folder.name for folder in (CONF / "model").iterdir()}
    for file in options("task"):
        target = yaml.safe_load((CONF / file).read_text(encoding="utf-8"))["_target_"]
        assert target.startswith(f"marquee.tasks.{Path(file).stem}."), file
    for group in ("data", "split"):
        for file in options(group):
            target = yaml.safe_load((CONF / file).read_text(encoding="utf-8"))["_target_"]
            assert target.startswith("marquee.data."), file


@pytest.mark.parametrize("file", LIGHT)
def test_what_help_and_listings_need_imports_nothing_heavy(file):
    tree = ast.parse((SOURCE / file).read_text(encoding="utf-8"))
    found = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    assert not found & HEAVY


def test_models_and_data_know_neither_lightning_nor_hydra():
    for folder in ("models", "data", "metrics", "apply"):
        for file in (SOURCE / folder).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            assert not re.search(r"^\s*(import|from) (pytorch_lightning|lightning|hydra|omegaconf)", text, re.M), file


def test_only_one_file_makes_a_trainer_work():
    calls = re.compile(r"\btrainer\.(fit|test)\(")
    users = [file.name for file in SOURCE.rglob("*.py") if calls.search(file.read_text(encoding="utf-8"))]
    assert users == ["train.py"]
