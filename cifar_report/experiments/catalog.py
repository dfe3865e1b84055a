"""What there is to run: the journal's families and experiments, their parameter files, and the profiles.

Read from `params/` and `notebooks/`, in a clone beside the package, in an installed wheel inside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from textwrap import shorten
from typing import Any

from pydantic import BaseModel, Field, ValidationError, model_validator
from ruamel.yaml import YAML, YAMLError

from cifar_report.experiments.errors import RequestError, unknown
from cifar_report.experiments.schema import Experiment, full_name, validate
from cifar_report.experiments.sweep import split_sweep_name


class Entry(BaseModel, extra="forbid"):
    """One experiment of the journal. `reference_accuracy` is the original report's, in percent."""

    id: str
    title: str
    builds_on: str | None = None
    reference_accuracy: float | None = None
    same_as: str | None = None  # the experiment that it repeats
    caveat: str | None = None  # what differs from the one it builds on beside what it is about
    fitted: bool = False  # another reading of the one it builds on, chosen to give the original's curve


class Statement(BaseModel, extra="forbid"):
    """What the original report says, and what tests it on record: exactly one of the last four.

    `contrasts`, such as `EXP003 EXP004 > EXP005 EXP006` (the mean of some above that of others), `EXP017 > EXP011 + 10`
    or `EXP001 = EXP003` (equivalent within the margin), are of the `measure` and hold together or not at all.
    """

    of: str
    says: str
    measure: str = "accuracy"
    margin: float | None = Field(None, gt=0)  # in the measure's unit; of accuracy in points
    seeds_from: int = 0  # a statement that earlier seeds suggested is tested on later ones
    post_hoc: bool = False
    ours: bool = False  # a question of this journal, not a statement of the original report
    caveat: str | None = None  # what beside the statement's cause differs, too
    contrasts: list[str] = []
    # Accuracies in percent. The original's figure of an experiment, to agree with where one run of ours is expected:
    figures: dict[str, float] = {}
    at_least: dict[str, float] = {}  # what an experiment, or the `best` by accuracy, is to be above
    untested: str | None = None  # why no record of this journal tests it

    @model_validator(mode="after")
    def _tested_in_one_way(self) -> Statement:
        if sum(map(bool, (self.contrasts, self.figures, self.at_least, self.untested))) != 1:
            raise ValueError(f"'{self.says}' needs contrasts, figures, at_least or untested, and one of them only")
        if "best" in self.at_least and self.measure != "accuracy":
            raise ValueError(f"'{self.says}': 'best' means the highest accuracy, and takes no other measure")
        if self.measure == "accuracy" and any(0 < bound <= 1 for bound in (self.figures | self.at_least).values()):
            raise ValueError(f"'{self.says}': accuracies are in percent, such as 94")
        for text in self.contrasts:
            if not re.fullmatch(r"\w+( \w+)* [<>=] \w+( \w+)*( \+ \d+(\.\d+)?)?", text):
                sweep = "; `cifar-report new` names an experiment of a sweep" if "-" in text else ""
                raise ValueError(f"'{text}' is no contrast such as EXP003 > EXP005 or EXP017 > EXP011 + 10{sweep}")
            if "=" in text and "+" in text:
                raise ValueError(f"'{text}': a difference of a given size is stated with < or >")
            above, below = (sorted(side.split()) for side in re.split("[<>=]", text.partition("+")[0]))
            if above == below:
                raise ValueError(f"'{text}' compares experiments with themselves")
        if self.contrasts and self.measure != "accuracy" and self.margin is None:
            raise ValueError(f"'{self.says}' is of {self.measure} and needs a margin: the journal's is of accuracy")
        return self


class Family(BaseModel, extra="forbid"):
    """Experiments that share a notebook and a question. `beyond` the original report is what it did not try."""

    name: str
    title: str
    notebook: str
    beyond: bool = False
    experiments: list[Entry]

    @property
    def notebook_path(self) -> Path:
        return packaged_folder("notebooks") / self.notebook


class Catalog(BaseModel, extra="forbid"):
    """The journal's table of contents: `params/journal.yaml`."""

    title: str
    repository: str
    ref: str
    margin: float  # points: a smaller difference of accuracy counts as none
    families: list[Family]
    statements: list[Statement]

    @model_validator(mode="after")
    def _names_its_own_experiments(self) -> Catalog:
        known: set[str] = set()
        for e in self.entries.values():
            for base in filter(None, (e.builds_on, e.same_as)):
                if base not in known:
                    raise ValueError(f"{e.id} builds on {base}, which is no experiment above it")
            known.add(e.id)
        for s in self.statements:
            words = [word for word in " ".join(s.contrasts).split() if not re.fullmatch(r"[<>=+]|[\d.]+", word)]
            for name in (*words, *s.figures, *(s.at_least.keys() - {"best"})):
                if name not in known:
                    raise ValueError(f"the statement '{s.says}' is about {name}, which is no experiment of the journal")
        return self

    def colab_link(self, notebook: str) -> str:
        """Where Colab opens a notebook of the repository."""
        return f"https://colab.research.google.com/github/{self.repository}/blob/{self.ref}/notebooks/{notebook}"

    @property
    def entries(self) -> dict[str, Entry]:
        return {entry.id: entry for family in self.families for entry in family.experiments}

    @property
    def family_of(self) -> dict[str, Family]:
        """The family that each experiment belongs to; an experiment of the user's own has none."""
        return {entry.id: family for family in self.families for entry in family.experiments}

    def family_named(self, name: str) -> Family:
        """The family of that name."""
        families = {family.name: family for family in self.families}
        if name not in families:
            raise unknown("family", name, families)
        return families[name]

    def select(self, wanted: Iterable[str]) -> list[str]:
        """Expand identifiers and ranges (`EXP003`, `exp3`, `EXP003-EXP006`), in journal order; none: all.

        A range is by number: `EXP029-EXP031` is these three, though the journal places EXP049 between them.
        """
        known = list(self.entries)
        chosen: set[str] = set()
        words = wanted if isinstance(wanted, str) else " ".join(wanted)
        for word in re.split(r"[,\s]+", words.strip()) if wanted else ():
            if "=" in word:
                raise RequestError(f"'{word}' is a setting, not an experiment: write --set before it")
            name = full_name(word)
            first, dash, last = name.partition("-")
            if first in known and split_sweep_name(name)[1]:
                raise RequestError(f"{word} is an experiment of a sweep: name {first}, and its values with --set")
            ends = [first, last] if dash else [first]
            for end in ends:
                if end not in known:
                    unlisted = end and (packaged_folder("params") / f"{end.lower()}.yaml").is_file()
                    error = unknown("experiment", end or word, known)
                    raise RequestError(f"{end} has a file, but no line in params/journal.yaml") if unlisted else error
            low, high = map(_by_number, (ends[0], ends[-1]))
            if low > high:
                raise RequestError(f"the range '{word}' runs backwards")
            chosen.update(name for name in known if low <= _by_number(name) <= high)
        return [name for name in known if name in chosen] if chosen else known


def _by_number(name: str) -> list[str | int]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def packaged_folder(name: str) -> Path:
    """Folder `notebooks` or `params`, in the installed package or in the clone around it."""
    package = Path(__file__).resolve().parent.parent
    return package / name if (package / name).is_dir() else package.parent / name


class Profile(BaseModel, extra="forbid"):
    """A budget, `params/profiles/<name>.yaml`: parameters of all experiments, then of those named, or of a range."""

    purpose: str
    all: dict[str, Any] = {}
    experiments: dict[str, dict[str, Any]] = {}


@cache
def load_catalog() -> Catalog:
    """Read the journal's table of contents."""
    return _read(Catalog, packaged_folder("params") / "journal.yaml")


def _read(kind: type[BaseModel], path: Path) -> Any:
    content = read_yaml(path)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        places = [str(place) for place in first["loc"]]
        if places[1:] and places[0] == "statements":  # by its text: nobody counts them
            statement = content["statements"][int(places[1])]
            text = statement.get("says", statement) if isinstance(statement, dict) else statement
            places[:2] = [f"the statement '{shorten(str(text), 80)}'"]
        where = ".".join(places) + ": " if places else ""
        raise RequestError(f"{path}: {where}{first['msg'].removeprefix('Value error, ')}") from None


def profiles() -> list[str]:
    """Names of the profiles."""
    return sorted(path.stem for path in (packaged_folder("params") / "profiles").glob("*.yaml"))


def load_experiment(name: str, *, profile: str | None = None, overrides: Mapping[str, Any] | None = None) -> Experiment:
    """Resolve an experiment: schema defaults, its parameter file, the profile, then the overrides.

    A `RequestError` names an unknown experiment or profile, or the parameter that the schema refuses.
    """
    path = packaged_folder("params") / f"{name.lower()}.yaml"
    if not path.is_file():
        if name.upper() in load_catalog().entries:
            raise RequestError(f"params/journal.yaml lists {name.upper()}, but its file {path} is missing")
        raise unknown("experiment", name, load_catalog().entries)
    parameters = read_yaml(path)
    resolved = validate(parameters, where=str(path))
    if resolved.experiment != name.upper():
        raise RequestError(f"{path}: it says experiment: {resolved.experiment}, but its name says {name.upper()}")
    if profile is not None:
        parameters |= _profile_overrides(profile, resolved.experiment)
        resolved = validate(parameters, where=f"{path.name} with profile {profile}")
    if overrides:
        resolved = validate(parameters | dict(overrides), where=f"{name} with the given overrides")
    return resolved


def _profile_overrides(profile: str, experiment: str) -> dict[str, Any]:
    if profile not in profiles():
        raise unknown("profile", profile, profiles())
    budget: Profile = _read(Profile, packaged_folder("params") / "profiles" / f"{profile}.yaml")
    overrides, listed, entry = budget.all, False, load_catalog().entries.get(experiment)
    for names, values in budget.experiments.items():
        if experiment in load_catalog().select(names):
            overrides, listed = overrides | values, True
    if entry and entry.builds_on and not listed:  # as `new` adds one: with the budget of what it builds on
        return _profile_overrides(profile, entry.builds_on)
    return overrides


def parse_overrides(pairs: Iterable[str]) -> dict[str, str]:
    """Split `key=value` texts, each with one or several pairs, into a mapping; the schema gives the types.

    A pair ends where the next `key=` begins, so values may hold spaces: `augment=[rotation, crop] epochs=3`.
    """
    overrides: dict[str, str] = {}
    for text in pairs:
        before, *parts = re.split(r"(?<!\S)([^\s=]+)=", text)
        if before.strip() or not parts:
            raise RequestError(f"'{text}' is not of the form key=value")
        for name, value in zip(parts[::2], parts[1::2], strict=True):
            if name in overrides:
                raise RequestError(f"--set names '{name}' twice")
            if value.strip().endswith(",") or {*re.findall(r",\s*(\w+)=", value)} & Experiment.model_fields.keys():
                raise RequestError(f"--set takes pairs with spaces between them, not commas: '{text}'")
            overrides[name] = value.strip()
    return overrides


def read_yaml(path: Path) -> dict[Any, Any]:
    """Load a mapping from YAML 1.2, safely: a key once, `010` is 10, `no` a text. Errors name the file and the line."""
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise RequestError(f"cannot read {path}: {reason}") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise RequestError(f"{path}{line}: malformed YAML: {problem}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise RequestError(f"{path}, line 1: expected 'name: value' lines, found a {type(content).__name__}")
    return content
