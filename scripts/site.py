"""The pages of the site that are made of the code: a page for each verb and model, lists of data, splits and recipes.

A hook of MkDocs (`hooks:` in mkdocs.yml): it adds the pages to those of docs/ and to the navigation when `make docs`
builds the site. Nothing is written into docs/.
"""

import argparse
import inspect
import json
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parents[1]
CONF = REPOSITORY / "conf"
API = {
    "Use a finished run": ["marquee.load", "marquee.inference.predictor.Predictor",
                           "marquee.inference.recommender.RecommendPredictor",
                           "marquee.inference.classifier.ClassPredictor", "marquee.inference.generation.Generator"],
    "Data sets": ["marquee.data.dataset", "marquee.data.spec"],
    "Models": ["marquee.models.base"],
    "Tasks": ["marquee.tasks.base.Task"],
    "Metrics": ["marquee.metrics.ranking"],
    "Runs": ["marquee.runs.train.train", "marquee.runs.record.Run"],
}  # fmt: skip


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and name them in the navigation."""
    own: dict[str, dict[str, str]] = {
        "Verbs": verbs(),
        "Models": models(),
        "Catalogue": {"catalogue/data.md": listed("data"), "catalogue/splits.md": listed("split"),
                      "catalogue/tasks.md": listed("task"), "catalogue/recipes.md": recipes()},
        "Notebooks": notebooks(),
        "Python": {"api.md": api()},
    }  # fmt: skip
    for title, pages in own.items():
        for name, text in pages.items():
            files.append(File.generated(config, name, content=text))
        config.nav.append({title: list(pages)})
    return files


# Verbs ---------------------------------------------------------------------------------------------------------------


def verbs() -> dict[str, str]:
    """A page for each verb: what it does, its arguments, examples; as `marquee VERB --help` has them."""
    from marquee.cli.main import VERBS, frame

    choices = next(action.choices for action in frame()._actions if isinstance(action, argparse._SubParsersAction))
    return {f"verbs/{name}.md": verb(name, sentence, choices.get(name)) for name, sentence in VERBS.items()}


def verb(name: str, sentence: str, parser: argparse.ArgumentParser | None) -> str:
    lines = [f"# marquee {name}", "", f"{sentence[0].upper()}{sentence[1:]}.", ""]
    if parser is None or name == "train":
        return "\n".join([*lines, "Words are Hydra's: choices of groups and values of keys.", "",
                          "```bash", "marquee train data=imdb model=rnn/lstm trainer.max_epochs=2",
                          "marquee train -m data=imdb model=rnn/lstm,linear/nbsvm seed=1,2,3",
                          "marquee train --help    # every group, its choices, and every key with its value",
                          "```", "", "See [Sweeps](../sweeps.md) and [Concepts](../concepts.md).", ""])  # fmt: skip
    parser.formatter_class = lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=96)
    return "\n".join([*lines, "```text", parser.format_help().rstrip(), "```", ""])


# Models --------------------------------------------------------------------------------------------------------------


def models() -> dict[str, str]:
    """A page for each model: its docstring with the paper, what it fits, its keys, its search space, its recipes."""
    from marquee.config.fitting import option_class
    from marquee.config.folders import options

    uses = recipes_by_model()
    return {
        f"models/{name}.md": model(name, option_class("model", name), uses.get(name, []))
        for name in sorted(options("model"))
    }


def model(name: str, kind: type, recipes: list[str]) -> str:
    file, search = CONF / "model" / f"{name}.yaml", CONF / "search" / f"{name}.yaml"
    docstring = inspect.getdoc(kind) or ""
    lines = [f"# {name}", "", f"`{kind.__module__}.{kind.__qualname__}`", "", *paragraphs(docstring), "",
             "## Keys", "", f"`model={name}` reads `conf/model/{name}.yaml`:", "", "```yaml",
             file.read_text(encoding="utf-8").rstrip(), "```", ""]  # fmt: skip
    if search.is_file():
        lines += ["## Search", "", "`hydra/sweeper=optuna` searches here unless ranges are typed:", "", "```yaml",
                  search.read_text(encoding="utf-8").rstrip(), "```", ""]  # fmt: skip
    if recipes:
        lines += ["## Recipes", "", *(f"- `marquee train experiment={recipe}`" for recipe in recipes), ""]
    return "\n".join(lines)


def paragraphs(docstring: str) -> list[str]:
    """A docstring as Markdown: its lists of parameters, `name  meaning`, become lists."""
    found = []
    for block in docstring.split("\n\n"):
        rows = re.split(r"\n(?=\S)", block)
        if all(re.match(r"\S.{0,40}?  +\S", row) for row in rows):
            for row in rows:
                name, meaning = re.split(r"  +", row, maxsplit=1)
                found.append(f"- `{name}`: {' '.join(meaning.split())}")
        else:
            found.append(block.replace("<", "&lt;"))
        found.append("")
    return found


# Catalogues ----------------------------------------------------------------------------------------------------------


def listed(group: str) -> str:
    """Every choice of a group with its YAML, which is its documentation."""
    names = {"data": "Data sets", "split": "Splits", "task": "Tasks"}
    lines = [f"# {names[group]}", "", f"Every choice of `{group}=`, with its keys and their defaults.", ""]
    for file in sorted((CONF / group).glob("*.yaml")):
        text = file.read_text(encoding="utf-8")
        lines += [f"## {file.stem}", ""]
        if target := re.search(r"^_target_: (\S+)", text, re.MULTILINE):
            from marquee.config.targets import resolve

            lines += [*paragraphs(inspect.getdoc(resolve(target[1])) or ""), ""]
        lines += ["```yaml", text.rstrip(), "```", ""]
    return "\n".join(lines)


def recipes() -> str:
    """Every recipe with the head of its file: command, minutes, what to expect."""
    lines = ["# Recipes", "", "Each is a file of `conf/experiment/`; its head was measured.", ""]
    for name, text in recipe_texts().items():
        head = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#") and "@package" not in line]
        lines += [f"## {name}", "", "```text", *head, "```", ""]
    return "\n".join(lines)


def recipe_texts() -> dict[str, str]:
    folder = CONF / "experiment"
    return {
        file.relative_to(folder).with_suffix("").as_posix(): file.read_text(encoding="utf-8")
        for file in sorted(folder.rglob("*.yaml"))
    }


def recipes_by_model() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, text in recipe_texts().items():
        if choice := re.search(r"override /model: (\S+)", text):
            found.setdefault(choice[1], []).append(name)
    return found


def notebooks() -> dict[str, str]:
    """Each notebook as a page: what is said, and the code."""
    pages = {}
    for file in sorted((REPOSITORY / "docs" / "notebooks").glob("*.ipynb")):
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        texts = ["".join(cell["source"]) for cell in cells]
        parts = [
            text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```"
            for cell, text in zip(cells, texts, strict=True)
        ]
        pages[f"notebooks/{file.stem}.md"] = "\n\n".join([*parts, f"[The notebook itself]({file.name})", ""])
    return pages


def api() -> str:
    """The reference of what a user or an extension of Marquee calls, from docstrings."""
    lines = ["# Python", "", "What finished runs answer in Python, and what models, data sets and tasks promise.", ""]
    for title, names in API.items():
        lines += [f"# {title}", "", *(line for name in names for line in (f"::: {name}", ""))]
    return "\n".join(lines)


# No network ----------------------------------------------------------------------------------------------------------

SHIM = (
    "https://unpkg.com/iframe-worker/shim"  # what the theme would fetch to search from the disk; docs/worker.js is ours
)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Take the one script that the theme fetches from elsewhere out of a page."""
    return output.replace(SHIM, "../" * page.url.count("/") + "worker.js")


def on_post_template(output: str, template_name: str, config: MkDocsConfig) -> str:
    """Likewise of 404.html."""
    return output.replace(SHIM, "worker.js")
