"""What a run is called and what it said is text in every format, whatever it holds."""

import csv
import io
import json
import re

import numpy as np
import pytest

from marquee.compare.analysis import compare
from marquee.compare.escaping import in_csv, in_latex, in_markdown, latex_row
from marquee.compare.formats import written
from marquee.compare.paper import commands, environment_text
from marquee.compare.report.evidence import Recorded

from ..finished_runs import write_run

EVIL = [
    "a\n\\input{/etc/passwd}", "b\r\\input{x}", "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "+1+1", "@SUM(A1)",
    "[x](javascript:alert(1))", "![x](http://192.0.2.1/x.png)", "`code`", "\x1b[2J\x1b]0;owned\x07", "50 % $x_1^2$ #&~",
]  # fmt: skip


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    output, values = tmp_path_factory.mktemp("evil"), np.random.default_rng(0).random(20)
    for number, name in enumerate(EVIL):
        write_run(output, "linear/ease", 1, values - 0.01 * number, settings={"note": name}, data=EVIL[0])
        write_run(output, name, 1, values - 0.02 * number, data=EVIL[0])
    write_run(output, "mf/bpr", 1, values, status="failed", error="x\n\\input{y} <script>", data=EVIL[2])
    return compare([output])


def test_in_latex_every_line_is_a_comment_or_a_table_and_no_name_is_a_command(result):
    text = written(result, "latex")
    assert "input" in text, "as text"
    for line in text.split("\n"):
        if not line.startswith("%"):
            assert not re.search(r"(?<!\\)%", line)
            assert set(re.findall(r"\\([a-zA-Z]+)", line)) <= {
                "begin", "end", "centering", "caption", "toprule", "midrule", "bottomrule", "textbf",
                "textbackslash", "textasciitilde", "textasciicircum", "pm",
            }  # fmt: skip
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)


def test_latex_keeps_brackets_and_stars_at_the_start_of_a_row_to_the_row():
    assert latex_row(["[x]", "1"]) == r"{}[x] & 1 \\"
    assert latex_row(["*x", "1"]) == r"{}*x & 1 \\"
    assert in_latex("a\nb_c \\x") == r"a b\_c \textbackslash{}x"


def test_in_markdown_there_is_no_html_no_link_no_image_and_each_row_is_a_line(result):
    text = written(result, "md")
    assert "<" not in text and "alert(1)" in text
    assert not re.search(r"\]\(|(?<!\\)`", text)
    tables = [line for line in text.split("\n") if line.startswith("|")]
    columns = {len(re.findall(r"(?<!\\)\|", line)) for line in tables}
    assert all(line.endswith("|") for line in tables) and len(columns) <= 3
    assert in_markdown("&lt;b&gt; R&D <0.001") == "&amp;lt;b&amp;gt; R&D &lt;0.001"
    assert in_markdown("neighbours/item_knn [0.1, 0.2]") == "neighbours/item_knn [0.1, 0.2]"


def test_in_csv_no_text_is_a_formula_and_numbers_stay_numbers(result):
    rows = list(csv.DictReader(io.StringIO(written(result, "csv"), newline="")))
    for row in rows:
        for key, cell in row.items():
            if re.match(r"[=+\-@\t\r\n]", cell):
                assert re.fullmatch(r"-?[\d.]+(e-?\d+)?", cell), (key, cell)
    assert any(row["model"] == "'" + EVIL[3] for row in rows)
    assert min(float(row["best_difference"]) for row in rows if row["best_difference"]) < 0
    assert [in_csv(value) for value in ("=1", "\t=1", "-x", -1.5, None, "a=1")] == [
        "'=1", "'\t=1", "'-x", -1.5, None, "a=1"
    ]  # fmt: skip


def test_json_is_as_the_runs_say(result):
    content = json.loads(written(result, "json"))
    models = {row["model"] for block in content["blocks"] for row in block["configurations"]}
    assert set(EVIL) <= models


def test_no_version_of_a_run_is_another_line_of_the_environment_file_or_of_the_commands(tmp_path):
    packages = {"torch": "2.0\n--index-url http://192.0.2.1", "numpy": "1.26", "x\nevil": "1"}
    environment = {"python": "3.11\nevil==1", "packages": packages}
    run = Recorded("id\nrm -rf /", {"environment": environment, "overrides": ["a=b\nc"]}, tmp_path)
    text, _ = environment_text([run])
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        "numpy==1.26", "torch==2.0 --index-url http://192.0.2.1"
    ]  # fmt: skip
    assert "# id rm -rf /" in commands(tmp_path, [run])
