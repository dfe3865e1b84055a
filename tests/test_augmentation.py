"""Against torchvision's per-image transforms, image by image."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from cifar_report.data.cache import load_images
from cifar_report.experiments.schema import allowed_values
from cifar_report.training import choices
from cifar_report.training.augmentation import crop, rotation, shift, trivial_augment
from cifar_report.training.choices import chosen
from cifar_report.training.inputs import STATISTICS, augment, to_input
from cifar_report.training.mixing import MIXES, mix

TURNS = torch.zeros(200, dtype=torch.int64)  # how often each image was shown


def implemented(folder: str) -> set[str]:
    """The files of a folder of choices."""
    return {p.stem for p in (Path(choices.__file__).parent / folder).glob("[a-z]*.py")}


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    smooth = torch.rand(200, 3, 8, 8, generator=generator)
    return (torch.nn.functional.interpolate(smooth, size=32, mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)


def seeded(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_name_of_the_schema_is_implemented():
    assert implemented("augmentation") == set(allowed_values("augment"))
    assert list(STATISTICS) == allowed_values("normalize")


@pytest.mark.parametrize("name", allowed_values("augment"))
def test_augmentation_is_random_image_by_image_and_repeatable(images, name):
    alike = images[:1].expand(200, -1, -1, -1)
    turns = torch.arange(200)
    first, again = (augment(alike, [name], seeded(), turns) for _ in range(2))
    assert first.dtype == torch.uint8
    assert first.shape == images.shape
    assert torch.equal(first, again)
    distinct = len({image.numpy().tobytes() for image in first})
    assert distinct >= {"rotation": 50, "crop": 50, "shift": 20, "cutout": 50, "trivial_augment": 20}.get(name, 2)
    other = augment(alike, [name], seeded(8), turns + 1)
    assert not torch.equal(other, first)


def test_flip_is_torchvisions_for_about_half_of_the_images(images):
    flipped = chosen("augment", "horizontal_flip").apply(images, seeded(), TURNS)
    same = torch.tensor([torch.equal(a, b) for a, b in zip(flipped, images, strict=True)])
    mirrored = torch.tensor([torch.equal(a, tv.hflip(b)) for a, b in zip(flipped, images, strict=True)])
    assert (same ^ mirrored).all()
    assert 70 < mirrored.sum() < 130


def test_rotation_is_torchvisions_by_the_same_angles(images):
    turned = chosen("augment", "rotation").apply(images, seeded(), TURNS)
    angles = (torch.rand(len(images), generator=seeded()) * 2 - 1) * rotation.DEGREES
    assert angles.abs().max() <= 10
    for ours, original, angle in zip(turned, images, angles, strict=True):
        theirs = tv.rotate(original, angle.item(), interpolation=v2.InterpolationMode.BILINEAR)
        # torchvision blends the uncovered corners by a mask of its own; where it does not, the same to rounding
        inner = (slice(None), slice(5, 27), slice(5, 27))
        assert (ours[inner].int() - theirs[inner].int()).abs().max() <= 1
        assert (ours.int() - theirs.int()).abs().float().mean() < 2


def test_crop_is_a_window_of_the_padded_image(images):
    cropped = chosen("augment", "crop").apply(images, seeded(), TURNS)
    offsets = torch.randint(0, 2 * crop.PADDING + 1, (2, len(images)), generator=seeded())
    for ours, original, top, left in zip(cropped, images, *offsets.tolist(), strict=True):
        assert torch.equal(ours, tv.crop(tv.pad(original, [crop.PADDING]), top, left, 32, 32))


def test_alternating_flip_shows_each_side_in_every_second_epoch(images):
    flip = chosen("augment", "alternating_flip").apply
    turns = torch.randint(1000, (200,), generator=seeded())
    epochs = [flip(images, seeded(), turns + epoch) for epoch in range(4)]
    mirrored = turns % 2 == 1
    assert 70 < mirrored.sum() < 130
    assert torch.equal(epochs[0][mirrored], tv.hflip(images[mirrored]))
    assert torch.equal(epochs[0][~mirrored], images[~mirrored])
    assert torch.equal(epochs[1], tv.hflip(epochs[0]))
    assert torch.equal(epochs[2], epochs[0])
    assert torch.equal(epochs[3], epochs[1])


def test_shift_is_a_window_of_the_image_with_mirrored_edges(images):
    shifted = chosen("augment", "shift").apply(images, seeded(), TURNS)
    offsets = torch.randint(0, 2 * shift.PIXELS + 1, (2, len(images)), generator=seeded())
    for ours, original, top, left in zip(shifted, images, *offsets.tolist(), strict=True):
        assert torch.equal(ours, tv.crop(tv.pad(original, [shift.PIXELS], padding_mode="reflect"), top, left, 32, 32))


def test_cutout_covers_a_square_of_16_pixels_or_what_lies_inside(images):
    covered = chosen("augment", "cutout").apply(images, seeded(), TURNS)
    changed = (covered != images).any(1)  # (200, 32, 32)
    for ours, original, where in zip(covered, images, changed, strict=True):
        rows, columns = where.any(1).nonzero(), where.any(0).nonzero()
        square = (slice(None), slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
        assert (ours[square] == 128).all()
        assert 7 <= len(rows) <= 16
        assert 7 <= len(columns) <= 16
        assert (ours != 128).any()
        outside = where.logical_not()
        assert torch.equal(ours[:, outside], original[:, outside])
    assert changed.any(1).sum(1).max() == changed.any(2).sum(1).max() == 16


def test_trivial_augment_is_torchvisions_with_the_same_draws(images):
    """Which calls the same change with the same strength, one image at a time."""
    theirs = v2.TrivialAugmentWide(fill=0)
    space = list(v2.TrivialAugmentWide._AUGMENTATION_SPACE.items())
    changed = chosen("augment", "trivial_augment").apply(images, seeded(), TURNS)
    draw = seeded()
    kinds, steps, signs = (torch.randint(most, (200,), generator=draw) for most in (len(space), 31, 2))
    assert [name.replace("X", "_x").replace("Y", "_y").lower() for name, _ in space] == list(trivial_augment.CHANGES)
    for ours, original, kind, step, sign in zip(
        changed, images, *(x.tolist() for x in (kinds, steps, signs)), strict=True
    ):
        name, (magnitudes, signed) = space[kind]
        every = magnitudes(31, 32, 32)
        magnitude = 0.0 if every is None else round(float(every[step]), 4) * (2 * sign - 1 if signed else 1)
        expected = theirs._apply_image_or_video_transform(
            original, name, magnitude, interpolation=theirs.interpolation, fill=theirs._fill
        )
        apart = (ours.int() - expected.int()).abs().float().mean()
        assert apart < (1 if name == "Solarize" else 0.05), (name, magnitude)


@pytest.mark.parametrize("name", MIXES)
def test_mixed_labels_are_the_shares_of_the_images(name):
    """Black images of class 1, white ones of class 2: their brightness is the share of class 2."""
    images = torch.zeros(400, 3, 32, 32, dtype=torch.uint8)
    images[200:] = 255
    labels = torch.ones(400, dtype=torch.int64)
    labels[200:] = 2
    mixed, shares = mix(images, labels, 10, name, seeded())
    assert mixed.dtype == torch.uint8
    assert shares.shape == (400, 10)
    assert torch.allclose(shares.sum(1), torch.ones(400))
    assert torch.allclose(mixed.float().mean((1, 2, 3)) / 255, shares[:, 2], atol=0.003)
    assert len(shares[:, 2].unique()) > 50
    if name == "mixup":
        assert all(len(image.unique()) == 1 for image in mixed)
        changed = shares[:200, 2][shares[:200, 2] > 0]  # with a partner of the other class: a share uniform in [0, 1]
        assert changed.mean() == pytest.approx(0.5, abs=0.1)
    else:
        assert set(mixed.unique().tolist()) == {0, 255}


def test_cutmix_pastes_one_rectangle():
    images = torch.zeros(200, 3, 32, 32, dtype=torch.uint8)
    images[100:] = 255
    mixed, _ = mix(images, torch.zeros(200, dtype=torch.int64), 10, "cutmix", seeded())
    for image in mixed[:100]:
        white = image[0] == 255
        rows, columns = white.any(1), white.any(0)
        assert torch.equal(white, rows[:, None] & columns[None])
        if white.any():
            first, last = rows.nonzero().min(), rows.nonzero().max()
            assert last - first + 1 == rows.sum()


def test_nothing_is_mixed_unless_asked(images):
    labels = torch.arange(200) % 10
    same, answers = mix(images, labels, 10, "none", seeded())
    assert same is images
    assert answers is labels


def test_empty_list_changes_nothing(images):
    assert augment(images, (), seeded(), TURNS) is images


@pytest.mark.parametrize("size", [32, 64, 224])
@pytest.mark.parametrize("normalize", STATISTICS)
def test_to_input_is_torchvisions_pipeline(images, size, normalize):
    mean, std = STATISTICS[normalize]
    pipeline = v2.Compose([v2.Resize(size), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    ours = to_input(images[:8], size, normalize)
    theirs = torch.stack([pipeline(image) for image in images[:8]])
    assert ours.shape == (8, 3, size, size)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.data
def test_cifar10_statistics_are_those_of_its_training_images(real_data):
    loaded, _ = load_images("cifar10", data_dir=str(real_data))
    pixels = loaded.pixels[:50_000]
    counts = np.stack([np.bincount(pixels[:, channel].ravel(), minlength=256) for channel in range(3)])
    values, shares = np.arange(256) / 255, counts / counts.sum(axis=1, keepdims=True)
    means = shares @ values
    deviations = np.sqrt((shares * (values - means[:, None]) ** 2).sum(axis=1))
    assert STATISTICS["cifar10"][0] == pytest.approx(means, abs=1e-4)
    assert STATISTICS["cifar10"][1] == pytest.approx(deviations, abs=1e-4)
