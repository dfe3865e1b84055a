"""An experiment of one's own: `cifar-report new`."""

import itertools
import shutil
from pathlib import Path

import pytest
from records import write_run

from cifar_report import Journal
from cifar_report.cli import main
from cifar_report.experiments import addition, catalog
from cifar_report.experiments.catalog import load_catalog, load_experiment, packaged_folder, parse_overrides, profiles
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import validate


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A copy of `params/`, in the place of the real one."""
    shutil.copytree(packaged_folder("params"), tmp_path / "params")
    for module in (addition, catalog):
        monkeypatch.setattr(module, "packaged_folder", lambda name: tmp_path / name)
    load_catalog.cache_clear()
    yield tmp_path / "params"
    load_catalog.cache_clear()


def test_an_installed_package_gets_no_experiments(monkeypatch, capsys):
    """The next installation would remove them."""
    package = Path(addition.__file__).parents[1]
    monkeypatch.setattr(addition, "packaged_folder", lambda name: package / name)
    assert main(["new", "EXP100", "--from", "EXP003", "--set", "lr=0.02"]) == 2
    assert "adds files to a clone of the repository" in capsys.readouterr().err
    assert not (package / "params").exists()


def test_in_the_folder_of_another_clone_nothing_is_added_and_commands_say_whose_package_they_are(
    clone, monkeypatch, capsys
):
    before = {path.name: path.read_bytes() for path in packaged_folder("params").glob("*.yaml")}
    monkeypatch.chdir(clone.parent)
    assert main(["new", "EXP100", "--from", "EXP003", "--set", "lr=0.02"]) == 2
    used = packaged_folder("params").parent
    assert f"the experiment would be added to {used}: activate" in capsys.readouterr().err
    assert not (clone / "exp100.yaml").exists()
    assert {path.name: path.read_bytes() for path in used.joinpath("params").glob("*.yaml")} == before
    assert main(["list"]) == 0
    assert f"this is the package of {used}, not that of the clone in this folder" in capsys.readouterr().err
    monkeypatch.chdir(used)
    assert main(["list"]) == 0
    assert capsys.readouterr().err == ""


def test_a_new_experiment_is_the_old_one_with_what_differs(clone, capsys):
    before = (clone / "journal.yaml").read_text().splitlines()
    words = ["new", "exp100", "--from", "exp003", "--set", "lr=0.02 augment=[crop, horizontal_flip]"]
    assert main([*words, "--title", "LeNet: twice the rate"]) == 0
    out = capsys.readouterr().out
    assert 'make report ONLY="EXP003 EXP100" SEEDS=0,1,2' in out
    expected = {"experiment": "EXP100", "lr": 0.02, "augment": ["crop", "horizontal_flip"]}
    base = load_experiment("EXP003").model_dump()
    assert load_experiment("EXP100") == validate({**base, **expected})
    text = (clone / "exp100.yaml").read_text()
    assert text.startswith("# LeNet: twice the rate.\nexperiment: EXP100\n")
    assert "lr: 0.02  # unlike EXP003\n" in text
    assert "init: xavier_uniform\n" in text
    family = load_catalog().family_of["EXP100"]
    assert (family.name, family.experiments[-1].id) == ("initialization", "EXP100")
    entry = load_catalog().entries["EXP100"]
    assert (entry.title, entry.builds_on, entry.reference_accuracy) == ("LeNet: twice the rate", "EXP003", None)
    after = (clone / "journal.yaml").read_text().splitlines()
    assert [line for line in after if line not in before] == [line for line in after if "EXP100" in line]
    assert len(after) == len(before) + 1


def test_a_record_whose_parameter_file_is_missing_is_not_taken_for_a_smaller_budget(clone, tmp_path):
    addition.add_experiment("EXP197", "EXP003", {"lr": "0.02"})
    write_run(tmp_path / "out", "EXP197")
    (clone / "exp197.yaml").unlink()
    with pytest.raises(RequestError, match=r"lists EXP197, but its file .* is missing"):
        assert Journal(tmp_path / "out", ["EXP197"]).complete["EXP197"].full_budget


@pytest.mark.parametrize(("given", "alike"), [("epochs=40", True), ("lr=0.02", False), ("epochs=40 lr=0.02", True)])
def test_what_the_quick_profile_makes_alike_is_said(clone, capsys, given, alike):
    assert main(["new", "EXP100", "--from", "EXP003", "--set", given]) == 0
    assert ("the profile quick has the same epochs for both" in capsys.readouterr().out) is alike


def test_its_title_says_what_differs_unless_one_is_given(clone):
    addition.add_experiment("EXP100", "EXP003", parse_overrides(["lr=0.02"]))
    addition.add_experiment("EXP101", "EXP100", parse_overrides(["momentum=0.95"]))
    assert load_catalog().entries["EXP101"].title == "LeNet, Xavier uniform, lr 0.02, momentum 0.95"


def test_a_short_name_is_the_one_that_commands_understand(clone, capsys):
    assert main(["new", "exp96", "--from", "exp3", "--set", "lr=0.02"]) == 0
    assert 'make report ONLY="EXP003 EXP096"' in capsys.readouterr().out
    assert load_catalog().select(["EXP96"]) == load_catalog().select("exp096") == ["EXP096"]
    assert validate({"experiment": "exp3"}).experiment == "EXP003"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["EXP003", "--from", "EXP001", "--set", "lr=0.02"], "there is an experiment EXP003 already"),
        (["EXP100", "--from", "EXP903", "--set", "lr=0.02"], "unknown experiment 'EXP903'"),
        (["EXP100", "--from", "EXP003", "--set", "lr=0.01"], "would be EXP003 by another name"),
        (["EXP100", "--from", "EXP003", "--set", "seed=3"], "has no seed of its own"),
        (["EXP100", "--from", "EXP003", "--set", "lr=0.1 experiment=EXP5"], "the new experiment's name is EXP100"),
        (["EXP100", "--from", "EXP003"], "would be EXP003 by another name"),
        (["EXP100", "--from", "EXP003-EXP005", "--set", "lr=0.3"], "--from takes one experiment, not EXP003-EXP005"),
        (["EXP100", "--from", "EXP003", "--set", "rate=1"], "unknown parameter 'rate'"),
        (["EXP100", "--from", "EXP003", "--set", "lr=fast"], "parameter 'lr'"),
        (["../x", "--from", "EXP003", "--set", "lr=0.02"], "letters and a number"),
        (["my-lenet", "--from", "EXP003", "--set", "lr=0.02"], "letters and a number"),
        (["no", "--from", "EXP003", "--set", "lr=0.02"], "letters and a number"),  # YAML would read false
        (["EXP100", "--from", "EXP003", "--set", "lr=0.02", "--title", "two\nlines"], "one line of text"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(clone, capsys, words, message):
    before = {path.name: path.read_text() for path in clone.glob("*.yaml")}
    assert main(["new", *words]) == 2
    assert message in capsys.readouterr().err
    assert {path.name: path.read_text() for path in clone.glob("*.yaml")} == before


@pytest.mark.parametrize("folder", ["/pictures", "2024", "1e5", "true", "my pictures", "obst \N{GRINNING FACE}"])
def test_where_the_pictures_are_is_kept(clone, folder):
    addition.add_experiment("EXP100", "EXP003", parse_overrides(["dataset=folder", f"data_dir={folder}"]))
    assert load_experiment("EXP100").data_dir == folder


def test_a_new_experiment_has_the_budget_of_what_it_builds_on(clone):
    bases = [*(f.experiments[-1].id for f in load_catalog().families), "EXP017C", "EXP019C", "EXP075"]
    for number, base in enumerate(bases):
        addition.add_experiment(f"NEW{number}", base, {"lr": "0.0123"})
    for profile, (number, base) in itertools.product(profiles(), enumerate(bases)):
        old, new = (load_experiment(name, profile=profile) for name in (base, f"NEW{number}"))
        # A child of these lies in a range that the profile names.
        within = {"precision"} if base in {"EXP017C", "EXP019C", "EXP075"} else set()
        assert new.differences(old).keys() - within == {"lr"}, (profile, base)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "builds_on: EXP011, fitted",
            "builds_on: EXP011B, fitted",
            "EXP011B builds on EXP011B, which is no experiment above it",
        ),
        ("builds_on: EXP029}", "builds_on: EXP929}", "builds on EXP929, which is no experiment above it"),
        (
            "[EXP001 > EXP000]",
            "[EXP001 > EXP0]",
            "'LeNet is a significant improvement on the baseline.' is about EXP0,",
        ),
        ("{EXP050: 94}", "{EXP950: 94}", "is about EXP950, which is no experiment"),
    ],
)
def test_the_journal_names_its_own_experiments(clone, capsys, old, new, message):
    journal = clone / "journal.yaml"
    text = journal.read_text()
    assert old in text
    journal.write_text(text.replace(old, new, 1))
    assert main(["list"]) == 2
    assert message in capsys.readouterr().err
