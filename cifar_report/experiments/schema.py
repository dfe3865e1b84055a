"""The parameters of an experiment: one schema for YAML files, notebook cells and the command line.

Field descriptions carry the unit and the allowed values; `cifar-report parameters` prints them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Container, Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from cifar_report.experiments.errors import RequestError, did_you_mean, unknown

LeNet = Literal["lenet", "lenet_without_dropout", "lenet_batchnorm"]
EfficientNet = Literal["efficientnet_b0", "efficientnet_b0_without_dropout"]
Model = Literal["net", LeNet, EfficientNet, "resnet18", "vgg16", "mobilenet_v2", "fastnet", "fastnet_wide"]
MODELS: tuple[str, ...] = get_args(Model)
PRETRAINED_MODELS = ("resnet18", "vgg16", "mobilenet_v2")
WHITENED_MODELS = ("fastnet", "fastnet_wide")
FIXED_SIZE_MODELS = ("net", *get_args(LeNet), *WHITENED_MODELS)

# Each dataset's classes, in the order of their labels.
CLASSES = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "digits": tuple("0123456789"),
}

# Parameters whose every value is a file of its own, and the folder below `training/` that holds the files.
CHOICES = {"model": "models", "augment": "augmentation", "optimizer": "optimizers", "schedule": "schedules"}

# Where a run happens, not what it computes: these never enter a run's cache key.
PLACE_PARAMETERS = frozenset({"data_dir", "weights_dir", "output_dir", "device", "offline"})


def full_name(name: Any) -> Any:
    """An experiment's identifier as files and the journal write it: `exp3` is `EXP003`."""
    return re.sub(r"\bEXP(\d+)", lambda n: f"EXP{n[1]:0>3}", name.upper()) if isinstance(name, str) else name


def _refuse_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


def _null_from_text(value: Any) -> Any:
    return None if isinstance(value, str) and value.strip().lower() in ("null", "none", "~", "") else value


def _list_from_text(value: Any) -> Any:
    """Accept `a, b`, `[a, b]`, `none` and real lists: papermill's `-p` passes every list as text."""
    if isinstance(value, str):
        names = (name.strip(" \"'") for name in value.strip().strip("[]").split(","))
        return tuple(name for name in names if name and name.lower() not in ("none", "null"))
    return () if value is None else value


Count = Annotated[int, BeforeValidator(_refuse_bool)]
Number = Annotated[float, BeforeValidator(_refuse_bool)]
OptionalCount = Annotated[Count | None, BeforeValidator(_null_from_text)]
OptionalText = Annotated[str | None, BeforeValidator(_null_from_text)]
Augmentation = Literal["horizontal_flip", "rotation", "crop", "alternating_flip", "shift", "cutout", "trivial_augment"]
AUGMENTATIONS: tuple[str, ...] = get_args(Augmentation)


Initialization = Literal[
    "default", "constant", "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal", "partial_identity"
]


class Experiment(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """Everything that defines one run. Unknown names, wrong types, ranges and contradictions are refused."""

    experiment: Annotated[str, BeforeValidator(full_name)] = Field(
        "EXP000",
        pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$",
        description="identifier, such as EXP003; names the run folder",
    )
    seed: Count = Field(0, ge=0, lt=2**32, description="seed of initial weights, data order, augmentation, dropout")
    dataset: Literal["cifar10", "digits", "folder"] = Field(
        "cifar10",
        description="cifar10; digits: 1,797 handwritten digits that need no download; folder: pictures in data_dir",
    )
    data_dir: OptionalText = Field(
        None, description="folder of a CIFAR-10 copy (null: $CIFAR_REPORT_DATA, then download), or of pictures by class"
    )
    train_limit: OptionalCount = Field(
        None, ge=1, description="at most so many training images, class-balanced; null: all"
    )
    test_limit: OptionalCount = Field(None, ge=1, description="at most so many test images, class-balanced; null: all")
    validation: Literal["test", "holdout", "fold"] = Field(
        "test",
        description="images that validate each epoch: test (the original protocol), holdout or fold (training images "
        "kept apart)",
    )
    holdout_size: Count = Field(
        5000, ge=1, description="training images that validate when validation is holdout, class-balanced"
    )
    fold: OptionalCount = Field(None, ge=0, description="which fold validates, 0 to folds - 1; needs folds")
    folds: OptionalCount = Field(None, ge=2, le=50, description="number of cross-validation folds; needs fold")
    model: Model = Field("net", description="architecture: " + ", ".join(MODELS))
    weights: Annotated[Literal["imagenet"] | None, BeforeValidator(_null_from_text)] = Field(
        None, description="imagenet, or null: initial weights are random"
    )
    weights_dir: OptionalText = Field(
        None, description="folder with <model>.safetensors; null: $CIFAR_REPORT_WEIGHTS, then download"
    )
    trainable: Literal["all", "head", "last_two_layers"] = Field(
        "all",
        description="layers that learn: all, head, last_two_layers; head and last_two_layers need pretrained weights",
    )
    frozen_batchnorm: Literal["evaluate", "train"] = Field(
        "evaluate",
        description="BatchNorm in frozen layers: evaluate (keeps its ImageNet statistics), train (uses each batch's)",
    )
    init: Initialization = Field(
        "default",
        description="initialization of convolutions and linear layers: default (PyTorch's own); with zero biases: "
        + ", ".join(get_args(Initialization)[1:]),
    )
    init_layers: Literal["all", "linear"] = Field(
        "all", description="layers that init covers: all, linear (convolutions keep PyTorch's own weights)"
    )
    whiten: bool = Field(
        False,
        description="first convolution whitens patches of the training images, weights frozen; fastnet, fastnet_wide",
    )
    image_size: Count = Field(32, ge=8, le=512, description="pixels per side that the model sees")
    augment: Annotated[tuple[Augmentation, ...], BeforeValidator(_list_from_text)] = Field(
        (),
        description="random changes to training images: horizontal_flip, rotation (10 degrees either way), crop (after "
        "padding by 4 pixels), alternating_flip (every second epoch), shift (2 pixels either way), cutout (a square of "
        "half the side), trivial_augment",
    )
    mix: Literal["none", "mixup", "cutmix"] = Field(
        "none", description="training images and labels mixed in pairs: none, mixup, cutmix"
    )
    normalize: Literal["half", "imagenet", "cifar10"] = Field(
        "half", description="channel statistics: half (mean 0.5, std 0.5), imagenet, cifar10"
    )
    epochs: Count = Field(20, ge=1, le=10_000, description="passes over the training images")
    batch_size: Count = Field(64, ge=1, le=65_536, description="images per training step")
    optimizer: Literal["sgd", "adam", "rmsprop", "adamax", "muon"] = Field(
        "sgd",
        description="sgd, adam, rmsprop, adamax, muon (convolutions; else sgd); other options keep PyTorch's defaults",
    )
    lr: Number = Field(
        0.01, gt=0, le=100, description="learning rate at the start (one_cycle, triangular: peak; muon: convolutions)"
    )
    momentum: Number = Field(0.9, ge=0, lt=1, description="of sgd, rmsprop and muon's convolutions; 0 with others")
    nesterov: bool = Field(True, description="Nesterov momentum of sgd; muon always has it: set false here")
    weight_decay: Number = Field(
        0.0,
        ge=0,
        description="L2 penalty added to the gradient; with muon, only of weights outside convolutions, divided by "
        "their learning rate",
    )
    schedule: Literal["constant", "step", "linear", "cosine", "one_cycle", "triangular"] = Field(
        "constant",
        description="learning rate over time: constant; step (a tenth after half the steps, a hundredth after 3/4); "
        "linear and cosine (to 0); one_cycle and triangular (up, then down)",
    )
    label_smoothing: Number = Field(0.0, ge=0, lt=1, description="share of the target spread over all classes")
    lookahead: bool = Field(False, description="average the weights over the steps of the training (Lookahead)")
    test_time_flip: bool = Field(
        False, description="score each test image together with its mirror image; validation is without"
    )
    test_time_shift: bool = Field(False, description="score each test image together with copies shifted by a pixel")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="float32, bfloat16 or float16 (mixed); auto: what is fast on this device for this network and size",
    )
    compile: bool = Field(
        False,
        description="compile the network first (torch.compile): takes minutes, worth it for long runs on a GPU",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto: cuda, else cpu; mps (Apple): untried, and wrong in some versions of PyTorch",
    )
    offline: Literal["fail", "stand_in"] = Field(
        "fail",
        description="if data or weights are unavailable: fail, or stand_in (digits, random weights; with a warning)",
    )
    output_dir: str = Field("outputs/notebook", min_length=1, description="folder that holds runs/")

    @model_validator(mode="after")
    def _no_contradictions(self) -> Experiment:
        for sentence in _contradictions(self):
            raise ValueError(sentence)
        return self

    def result_parameters(self) -> dict[str, Any]:
        """Parameters that change a run's result, as plain JSON values."""
        return self.model_dump(mode="json", exclude=set(PLACE_PARAMETERS))

    def differences(self, base: Experiment) -> dict[str, tuple[Any, Any]]:
        """What distinguishes this experiment from `base`: name -> (base's value, this one's)."""
        return differences(base.result_parameters(), self.result_parameters())


def _contradictions(e: Experiment) -> Iterator[str]:
    if e.weights is not None and e.model not in PRETRAINED_MODELS:
        yield f"weights: imagenet is offered for {', '.join(PRETRAINED_MODELS)}, not for model {e.model}"
    if e.trainable != "all" and e.weights is None:
        yield f"trainable: {e.trainable} freezes layers that must be pretrained; set weights=imagenet or trainable=all"
    if e.init != "default" and e.weights is not None:
        yield f"init: {e.init} would erase the pretrained weights; set weights=null or init=default"
    if len({e.validation == "fold", e.fold is not None, e.folds is not None}) > 1:
        yield "validation=fold needs fold (from 0) and folds (how many), and no other validation takes them"
    elif e.fold is not None and e.folds is not None and e.fold >= e.folds:
        yield f"fold must lie between 0 and folds - 1, but fold is {e.fold} and folds is {e.folds}"
    if e.mix != "none" and e.trainable != "all":
        yield f"mix: {e.mix} changes images, but frozen layers may see each only once; set mix=none or trainable=all"
    if e.nesterov and e.optimizer != "sgd":
        yield f"nesterov belongs to sgd; with optimizer={e.optimizer} set nesterov=false"
    if e.momentum > 0 and e.optimizer not in ("sgd", "rmsprop", "muon"):
        yield f"momentum belongs to sgd, rmsprop and muon; with optimizer={e.optimizer} set momentum=0"
    if e.optimizer == "muon" and e.schedule in ("one_cycle", "triangular"):
        yield f"schedule: {e.schedule} gives all weights one rate, but muon has three; set linear, cosine or step"
    if e.nesterov and e.momentum == 0:
        yield "nesterov needs a momentum above 0; set momentum, or nesterov=false"
    if e.image_size != 32 and e.model in FIXED_SIZE_MODELS:
        yield f"model {e.model} takes 32-pixel images; image_size is {e.image_size}"
    if e.model == "vgg16" and e.image_size < 32:
        yield f"model vgg16 halves images five times; image_size is {e.image_size}, and must be 32 or more"
    if e.optimizer == "muon" and e.model not in WHITENED_MODELS:
        yield f"muon has rates for {', '.join(WHITENED_MODELS)}, not for model {e.model}"
    if e.whiten and e.model not in WHITENED_MODELS:
        yield f"whiten is offered for {', '.join(WHITENED_MODELS)}, not for model {e.model}"
    if len(set(e.augment)) != len(e.augment):
        yield "augment names the same augmentation twice"


def validate(parameters: Mapping[str, Any], *, where: str = "the parameters") -> Experiment:
    """Return the validated experiment; a `RequestError` names the parameter, what is wrong, and `where` it stands."""
    for name in parameters:
        _check_name(name, where)
    try:
        return Experiment.model_validate(dict(parameters))
    except ValidationError as error:
        raise RequestError(_sentence(error, where)) from None


def from_variables(variables: Mapping[str, Any]) -> Experiment:
    """Collect the parameters among a notebook's variables (`globals()`) and validate them.

    Before the notebook's own code has run, every plain value must be a parameter, so that a misspelt one cannot pass
    unseen. Once `run` exists the notebook has variables of its own: then only near misses are refused.
    """
    where = "the notebook's parameters cell"
    for name, value in variables.items():
        plain = value is None or isinstance(value, bool | int | float | str | list | tuple)
        if not plain and name in Experiment.model_fields:  # `dataset` and `model` are other things further down
            raise RequestError(f"{name} is no parameter any more: execute the parameters cell again, then this one")
        if not plain or name.startswith("_") or name in ("In", "Out") or name in Experiment.model_fields:
            continue
        if "run" not in variables or difflib.get_close_matches(name, Experiment.model_fields, n=1, cutoff=0.85):
            _check_name(name, where)
    return validate({n: variables[n] for n in Experiment.model_fields if n in variables}, where=where)


def with_defaults(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A record's parameters. Those added since it was written get their default, which is what the code did before."""
    return {**Experiment.model_validate({}).result_parameters(), **parameters}


def differences(
    base: Mapping[str, Any], current: Mapping[str, Any], *, ignored: Container[str] = ("experiment", "seed")
) -> dict[str, tuple[Any, Any]]:
    """Parameters whose values differ, and act on either side: name -> (value in `base`, value in `current`)."""
    names = [name for name in {**acting_only(base), **acting_only(current)} if name not in ignored]
    return {name: (base.get(name), current.get(name)) for name in names if base.get(name) != current.get(name)}


def acting_only(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that have an effect beside the others."""
    idle = {
        "holdout_size": parameters.get("validation") != "holdout",
        "frozen_batchnorm": parameters.get("trainable") == "all",
        "init_layers": parameters.get("init") == "default",
    }
    return {name: value for name, value in parameters.items() if not idle.get(name)}


def shown(value: Any) -> str:
    """A parameter's value as people write it on the command line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, float):
        return next(text for text in (f"{value:g}", repr(value)) if float(text) == value)
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _check_name(name: Any, where: str) -> None:
    if name not in Experiment.model_fields:  # papermill writes names into the notebook, as code
        words = re.compile(re.escape(str(name).replace("_", " ")) + r"\b", re.IGNORECASE)  # as a description begins
        known = {n for n, field in Experiment.model_fields.items() if words.match(str(field.description))}
        see = f"'{min(known)}', or `cifar-report parameters`" if known else "`cifar-report parameters`"
        raise unknown("parameter", str(name), Experiment.model_fields, where, see=see)


def _sentence(error: ValidationError, where: str) -> str:
    first = error.errors()[0]
    problem = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:  # a contradiction between parameters
        return f"{problem} (in {where})"
    name, value = str(first["loc"][0]), first["input"]
    if allowed := allowed_values(name):
        problem = f"allowed: {', '.join(allowed)}" + did_you_mean(str(value), allowed)
    elif first["type"] == "string_pattern_mismatch":
        problem = f"expected {Experiment.model_fields[name].description}"
    else:
        problem = problem[:1].lower() + problem[1:]
    return f"parameter '{name}' in {where} cannot be {value!r}: {problem}"


def allowed_values(name: str) -> list[str]:
    """Allowed words of a parameter (of its elements, for a list), or an empty list for numbers and free text."""
    schema = Experiment.model_json_schema()["properties"][name]
    parts = [schema, schema.get("items", {}), *schema.get("anyOf", ())]
    words = [word for part in parts for word in part.get("enum", [part.get("const")]) if word]
    return [*words, "null"] if words and "anyOf" in schema else words
