"""A folder of runs that was moved or copied to another place, as to another machine, works from there."""

import json
import shutil

from .commands import FAST
from .conftest import manifest_of


def test_runs_are_listed_shown_compared_and_used_at_their_new_place(shell, tmp_path):
    for seed in (1, 2):
        assert shell("train", *FAST["bpr"], "trainer.max_epochs=1", "tracker=none", f"seed={seed}").code == 0
    before = manifest_of(tmp_path / "outputs" / "latest")
    assert str(tmp_path / "outputs") in json.dumps(before), "its record names the place where it was made"
    user = json.loads((tmp_path / "outputs" / "latest" / "inference" / "ids.json").read_text())["user_ids"][0]
    recommended = shell("recommend", "latest", "--user", user).out
    place = tmp_path / "another" / "machine"
    place.parent.mkdir()
    shutil.move(tmp_path / "outputs", place)

    listed = shell("ls", "--runs", place)
    assert listed.code == 0 and before["id"] in listed.out and len(listed.out.splitlines()) == 3
    shown = shell("show", "latest", "--runs", place)
    assert shown.code == 0 and str(place / "runs" / before["id"]) in shown.out
    compared = shell("compare", place, "--format", "json")
    assert compared.code == 0 and json.loads(compared.out)["blocks"][0]["seeds"] == [1, 2]
    used = shell("recommend", "latest", "--runs", place, "--user", user)
    assert used.code == 0 and used.out == recommended
    assert not (tmp_path / "outputs").exists(), "nothing was written to the old place"


def test_one_run_copied_alone_is_used_by_its_path(shell, tmp_path):
    assert shell("train", *FAST["bpr"], "trainer.max_epochs=1", "tracker=none").code == 0
    made = (tmp_path / "outputs" / "latest").resolve()
    copy = tmp_path / "usb" / "copied"
    shutil.copytree(made, copy)
    shutil.rmtree(tmp_path / "outputs")
    user = json.loads((copy / "inference" / "ids.json").read_text())["user_ids"][0]
    for words in (["show", copy], ["recommend", copy, "--user", user], ["compare", copy]):
        answer = shell(*words)
        assert answer.code == 0, answer.err
