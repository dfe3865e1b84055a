import pytest

from cifar_report.experiments import catalog
from cifar_report.experiments.catalog import (
    load_catalog,
    load_experiment,
    packaged_folder,
    parse_overrides,
    profiles,
    read_yaml,
)
from cifar_report.experiments.errors import RequestError

# The table of the original's experiments: family, model, reference accuracy, and what defines each.
SGD = {"optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "nesterov": True}
ADAM = {"optimizer": "adam", "lr": 0.001}
LARGE = {"image_size": 224, "augment": ("horizontal_flip", "rotation"), "weights": "imagenet", **ADAM}
TUNED = {"weights": "imagenet", "trainable": "all", "image_size": 32, "augment": (), "epochs": 20, **ADAM}
FROZEN = {**TUNED, "trainable": "last_two_layers"}
XAVIER = {"init": "xavier_uniform"}
EXPECTED = {
    "EXP000": ("baseline", "net", 64.44, {"init": "default", **SGD}),
    "EXP001": ("architectures", "lenet", 75.37, {"init": "default", **SGD}),
    "EXP002": ("architectures", "efficientnet_b0", 75.00, {"weights": None, "image_size": 32, **SGD}),
    "EXP003": ("initialization", "lenet", 75.70, {**XAVIER, **SGD}),
    "EXP004": ("initialization", "lenet", 74.69, {"init": "xavier_normal", **SGD}),
    "EXP005": ("initialization", "lenet", 74.36, {"init": "kaiming_normal", **SGD}),
    "EXP006": ("initialization", "lenet", 73.54, {"init": "kaiming_uniform", **SGD}),
    "EXP007": ("optimizers", "lenet", 75.37, {**XAVIER, **ADAM}),
    "EXP008": ("optimizers", "lenet", 74.90, {**XAVIER, "optimizer": "rmsprop", "lr": 0.001, "momentum": 0}),
    "EXP009": ("optimizers", "lenet", 75.70, {**XAVIER, **SGD}),
    "EXP010": ("optimizers", "lenet", 75.77, {**XAVIER, "optimizer": "adamax", "lr": 0.002}),
    "EXP011": ("transfer", "resnet18", 82.26, TUNED),
    "EXP012": ("transfer", "vgg16", 87.93, TUNED),
    "EXP013": ("transfer", "mobilenet_v2", 80.30, TUNED),
    "EXP014": ("frozen_transfer", "resnet18", 69.28, FROZEN),
    "EXP015": ("frozen_transfer", "vgg16", 68.61, FROZEN),
    "EXP016": ("frozen_transfer", "mobilenet_v2", 48.18, FROZEN),
    "EXP017": ("augmentation", "resnet18", 94.42, {**LARGE, "epochs": 5, "normalize": "half"}),
    "EXP018": ("augmentation", "vgg16", 88.58, {**LARGE, "epochs": 2, "normalize": "half"}),
    "EXP019": ("augmentation", "mobilenet_v2", 93.65, {**LARGE, "epochs": 5, "normalize": "half"}),
    "EXP020": ("normalization", "resnet18", 95.28, {**LARGE, "epochs": 10, "normalize": "imagenet"}),
}


def test_the_journal_lists_the_originals_experiments_in_order():
    entries = load_catalog().entries
    assert [name for name, entry in entries.items() if entry.reference_accuracy is not None] == list(EXPECTED)


def test_every_experiment_of_the_journal_has_parameters_of_its_own():
    found = {name: load_experiment(name).result_parameters() | {"experiment": ""} for name in load_catalog().entries}
    alike = {(a, b) for a in found for b in found if a < b and found[a] == found[b]}
    assert alike == {("EXP003", "EXP009")}  # as in the original


def test_a_file_that_the_journal_does_not_list_is_named(tmp_path, monkeypatch):
    assert {path.stem.upper() for path in packaged_folder("params").glob("exp*.yaml")} == set(load_catalog().entries)
    (tmp_path / "exp900.yaml").write_text("experiment: EXP900\n")
    monkeypatch.setattr("cifar_report.experiments.catalog.packaged_folder", lambda name: tmp_path)
    with pytest.raises(RequestError, match=r"^EXP900 has a file, but no line in params/journal\.yaml$"):
        load_catalog().select(["exp900"])


def test_names_are_apart_by_spaces_or_commas():
    for words in (["EXP003,exp005"], ["exp003 EXP005"], ["EXP003", "EXP005"], ["EXP005, EXP003"]):
        assert load_catalog().select(words) == ["EXP003", "EXP005"]


@pytest.mark.parametrize("name", EXPECTED)
def test_experiment_is_the_originals(name):
    family, model, reference, defining = EXPECTED[name]
    experiment = load_experiment(name)
    assert load_catalog().family_of[name].name == family
    assert load_catalog().entries[name].reference_accuracy == reference
    assert experiment.experiment == name
    assert experiment.model == model
    common = {"batch_size": 64, "validation": "test", "train_limit": None, "schedule": "constant", "seed": 0}
    for parameter, value in {"epochs": 20, "normalize": "half", **common, **defining}.items():
        assert getattr(experiment, parameter) == value, parameter


@pytest.mark.parametrize("profile", ["quick", "reference", "full"])
def test_profiles_resolve_every_experiment(profile):
    assert profile in profiles()
    for name in load_catalog().entries:
        load_experiment(name, profile=profile)


@pytest.mark.parametrize("profile", ["full", "reference"])
def test_full_and_reference_profiles_change_the_precision_alone(profile):
    for name in load_catalog().entries:
        changed = load_experiment(name, profile=profile).differences(load_experiment(name))
        assert set(changed) == {"precision"}, name


def test_every_precision_is_named():
    """`auto` would be another on another machine."""
    wide = {name for name in load_catalog().entries if load_experiment(name).image_size == 224}
    fast = {name for name in load_catalog().entries if load_experiment(name).model.startswith("fastnet")}
    for name in load_catalog().entries:
        assert load_experiment(name, profile="full").precision == "float32"
        # These three were trained on a CPU that computes bfloat16 no faster.
        expected = "bfloat16" if name in (wide | fast) - {"EXP017C", "EXP019C", "EXP075"} else "float32"
        assert load_experiment(name, profile="reference").precision == expected


def test_overrides_win_over_the_profile():
    assert load_experiment("EXP000", profile="quick", overrides={"epochs": "7"}).epochs == 7


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], list(load_catalog().entries)),
        (["EXP003"], ["EXP003"]),
        (["exp003"], ["EXP003"]),
        (["exp3-exp5"], ["EXP003", "EXP004", "EXP005"]),
        (["EXP005", "EXP003-EXP004"], ["EXP003", "EXP004", "EXP005"]),
        (["EXP003-EXP006", "EXP004"], ["EXP003", "EXP004", "EXP005", "EXP006"]),
        (["EXP029-EXP031"], ["EXP029", "EXP030", "EXP031"]),  # the journal has EXP049 to EXP051 between them
        (["EXP050-EXP052"], ["EXP050", "EXP051", "EXP052"]),
        (["EXP017-EXP018"], ["EXP017", "EXP017B", "EXP017C", "EXP018"]),
    ],
)
def test_select(words, expected):
    assert load_catalog().select(words) == expected


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("EXP999", "did you mean"),
        ("EXP003-", "unknown"),
        ("EXP006-EXP003", "backwards"),
        ("EXP003-EXP099", "EXP099"),
        ("EXP003-LR-0_02", "of a sweep: name EXP003, and its values with --set"),
    ],
)
def test_select_refuses(word, message):
    with pytest.raises(RequestError, match=message):
        load_catalog().select([word])


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["epochs=3"], {"epochs": "3"}),
        (["epochs=3 lr=0.01"], {"epochs": "3", "lr": "0.01"}),
        (["epochs=3", "lr=1e-3"], {"epochs": "3", "lr": "1e-3"}),
        (["augment=[rotation, crop] epochs=3"], {"augment": "[rotation, crop]", "epochs": "3"}),
        (["data_dir=/my data/cifar"], {"data_dir": "/my data/cifar"}),
        (["data_dir=/my,odd=name"], {"data_dir": "/my,odd=name"}),
    ],
)
def test_parse_overrides(texts, expected):
    assert parse_overrides(texts) == expected


def test_a_parameter_is_set_once():
    with pytest.raises(RequestError, match="--set names 'lr' twice"):
        parse_overrides(["lr=1", "epochs=2 lr=3"])


@pytest.mark.parametrize("text", ["epochs=1,lr=0.5", "lr=0.01,0.02, epochs=3"])
def test_pairs_with_commas_between_them_are_refused(text):
    with pytest.raises(RequestError, match="pairs with spaces between them, not commas"):
        parse_overrides([text])


@pytest.mark.parametrize("text", ["epochs", "=3", "3 epochs=2", ""])
def test_parse_overrides_refuses(text):
    with pytest.raises(RequestError, match="key=value"):
        parse_overrides([text])


def test_malformed_yaml_names_file_and_line(tmp_path):
    file = tmp_path / "exp.yaml"
    file.write_text("experiment: EXP000\nlr: [1, 2\nepochs: 3\n")
    with pytest.raises(RequestError, match=r"exp\.yaml, line 3: malformed YAML"):
        read_yaml(file)


def test_yaml_with_a_key_twice_is_refused(tmp_path):
    file = tmp_path / "exp.yaml"
    file.write_text("lr: 1\nepochs: 3\nlr: 2\n")
    with pytest.raises(RequestError, match=r'line 3: malformed YAML: found duplicate key "lr"'):
        read_yaml(file)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("-3", -3),
        ("1:30", "1:30"),
        ("0x1f", 31),
        ("1e-3", 0.001),
        ("0.5", 0.5),
        (".5", 0.5),
        ("1.", 1.0),
    ],
)
def test_yaml_numbers_are_what_they_look_like(text, value, tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(f"lr: {text}\n")
    read = read_yaml(file)["lr"]
    assert (read, type(read)) == (value, type(value))


def test_yaml_with_a_mapping_for_a_key_is_refused(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("epochs: 3\n{1: 2}: 4\n")
    with pytest.raises(RequestError, match=r"a\.yaml, line 2: malformed YAML: found unhashable key"):
        read_yaml(file)


def test_yaml_cannot_make_objects(tmp_path):
    file = tmp_path / "exp.yaml"
    file.write_text("lr: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(RequestError, match="line 1"):
        read_yaml(file)


@pytest.mark.parametrize("content", ["- a\n", "text\n"])
def test_yaml_must_be_a_mapping(tmp_path, content):
    file = tmp_path / "exp.yaml"
    file.write_text(content)
    with pytest.raises(RequestError, match="expected 'name: value' lines"):
        read_yaml(file)


def test_unreadable_yaml_is_named(tmp_path):
    with pytest.raises(RequestError, match=r"cannot read .*missing\.yaml: No such file"):
        read_yaml(tmp_path / "missing.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match=r"binary\.yaml"):
        read_yaml(binary)


def test_wrong_parameter_in_a_file_names_the_file(monkeypatch, tmp_path):
    (tmp_path / "journal.yaml").write_text((catalog.packaged_folder("params") / "journal.yaml").read_text())
    (tmp_path / "exp003.yaml").write_text("experiment: EXP003\nepoch: 3\n")
    monkeypatch.setattr(catalog, "packaged_folder", lambda name: tmp_path)
    with pytest.raises(RequestError, match=r"'epoch' in .*exp003\.yaml; did you mean 'epochs'"):
        load_experiment("EXP003")


def test_unknown_profile_is_refused():
    with pytest.raises(RequestError, match="did you mean 'quick'"):
        load_experiment("EXP003", profile="quik")


def test_an_experiment_whose_file_is_gone_is_named(monkeypatch, tmp_path):
    (tmp_path / "journal.yaml").write_text("")
    monkeypatch.setattr(catalog, "packaged_folder", lambda name: tmp_path)
    with pytest.raises(
        RequestError, match=r"params/journal\.yaml lists EXP003, but its file .*exp003\.yaml is missing"
    ):
        load_experiment("exp003")


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("{of: A, says: It helps., contrast: [EXP003 > EXP001]}", r"the statement 'It helps\.'.contrast: Extra"),
        ("{of: A, says: It helps.}", "the statement .*'It helps.' needs contrasts"),
        ("just words", "the statement 'just words': Input should be"),
    ],
)
def test_a_wrong_statement_is_named_by_its_text(monkeypatch, tmp_path, statement, words):
    text = f"title: T\nrepository: a/b\nref: main\nmargin: 1.0\nfamilies: []\nstatements:\n  - {statement}\n"
    (tmp_path / "journal.yaml").write_text(text)
    monkeypatch.setattr(catalog, "packaged_folder", lambda name: tmp_path)
    with pytest.raises(RequestError, match=f"journal\\.yaml: {words}"):
        load_catalog.__wrapped__()
