"""An experiment of one's own: its parameter file, and its line in the journal's table of contents."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from cifar_report.experiments.catalog import load_catalog, load_experiment, packaged_folder, read_yaml
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import PLACE_PARAMETERS, full_name, shown, validate

PLAIN = r"(?i)(?!(true|false|null|yes|no|on|off)$)[a-z_/][\w./-]*"  # what YAML reads as text without quotes


def add_experiment(name: str, base: str, overrides: Mapping[str, str], title: str | None = None) -> list[Path]:
    """Write `params/<name>.yaml`, `base` with the overrides, and a line at the end of its family in `journal.yaml`.

    Returns both files. A `RequestError` says what is wrong with the request; then nothing is written.
    """
    parameters, catalog = packaged_folder("params"), load_catalog()
    if parameters.parent == Path(__file__).resolve().parents[1]:  # where the next installation would replace them
        raise RequestError("`new` adds files to a clone of the repository; here cifar-report is installed without one")
    name, bases = full_name(name), catalog.select([base])
    if len(bases) > 1:
        raise RequestError(f"--from takes one experiment, not {base}")
    base = bases[0]
    file, journal = parameters / f"{name.lower()}.yaml", parameters / "journal.yaml"
    if file.exists() or name in catalog.entries:
        raise RequestError(f"there is an experiment {name} already: see {file}")
    if not re.fullmatch(r"[A-Z]+[0-9][A-Z0-9_]*", name):
        raise RequestError(f"an experiment's name is letters and a number, such as EXP100; not '{name}'")
    if title and not title.isprintable():
        raise RequestError("--title takes one line of text")
    if "seed" in overrides:
        raise RequestError("an experiment has no seed of its own: --seeds chooses those of its runs")
    if "experiment" in overrides:
        raise RequestError(f"the new experiment's name is {name}: --set names no other")
    written = read_yaml(parameters / f"{base.lower()}.yaml")
    experiment = validate({**written, **overrides, "experiment": name}, where=f"{base} with the given overrides")
    changes = experiment.differences(load_experiment(base))
    if not changes:
        raise RequestError(f"{name} would be {base} by another name: set a parameter that differs, such as lr=0.02")
    values = {**written, "experiment": name} | {parameter: value for parameter, (_, value) in changes.items()}
    values |= {place: getattr(experiment, place) for place in overrides if place in PLACE_PARAMETERS}
    title = title or f"{catalog.entries[base].title}, " + ", ".join(f"{n} {shown(v)}" for n, (_, v) in changes.items())
    lines = [f"# {title}."]
    for parameter, value in values.items():
        plain = not isinstance(value, str) or re.fullmatch(PLAIN, value)
        text = shown(value) if plain else json.dumps(value, ensure_ascii=False)
        lines.append(f"{parameter}: {text}" + (f"  # unlike {base}" if parameter in changes else ""))
    entry = f"      - {{id: {name}, title: {json.dumps(title, ensure_ascii=False)}, builds_on: {base}}}\n"
    family = catalog.family_of[base]
    last = re.compile(rf"^ *- \{{id: {family.experiments[-1].id},.*\n", re.MULTILINE)
    content = journal.read_text(encoding="utf-8")
    if len(last.findall(content)) != 1 or not all(os.access(path, os.W_OK) for path in (parameters, journal)):
        raise RequestError(f"add this line to {family.name} in {journal} yourself:\n{entry.strip()}")
    for path, text in ((file, "\n".join(lines) + "\n"), (journal, last.sub(lambda found: found[0] + entry, content))):
        path.write_text(text, encoding="utf-8")
    load_catalog.cache_clear()
    return [file, journal]
