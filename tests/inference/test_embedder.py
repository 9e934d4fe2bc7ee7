from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.complaints import complaints
from torch import nn

import tijepa
from tijepa.config import RunConfig
from tijepa.data import open_splits
from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import CheckpointError, ConfigError, DataError
from tijepa.evaluate.measure import evaluation_set
from tijepa.inference.embedder import Embedder
from tijepa.inference.loading import checkpoint_folder, model_folder
from tijepa.model.encoded import Encoded
from tijepa.model.saving import ModelCard, load_tensors, save_tensors
from tijepa.model.text_image_model import TextImageModel
from tijepa.training.build import build_model

TEXTS = ["a red ball", "a blue cube left of a green ball", "", "ball " * 200, "Ünïcode ☃"]


@pytest.fixture(scope="module")
def model(tiny_run: Path) -> Embedder:
    return tijepa.load(tiny_run)


@pytest.fixture(scope="module")
def paths(pairs_folder: Path) -> list[Path]:
    return [pairs_folder / f"test-{index}.png" for index in range(5)]


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


WIDTH = (
    62  # of a row of calibrated energy: both heads and 13 directions of the direct expert, twice
)

# --- what counts as an image ------------------------------------------------------------------


def test_all_forms_of_one_image_have_one_embedding(model: Embedder, paths: list[Path]) -> None:
    array = pixels(paths[0])
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    expected = model.encode_image(paths[0])
    assert expected.shape == (1, WIDTH)
    with Image.open(paths[0]) as opened:
        for image in (str(paths[0]), opened, array, tensor, tensor.float() / 255):
            assert torch.equal(model.encode_image(image), expected), type(image)
            assert torch.equal(model.encode_image([image]), expected), type(image)


def test_several_images_come_as_lists_of_any_kind_arrays_or_tensors(
    model: Embedder, paths: list[Path]
) -> None:
    arrays = np.stack([pixels(path) for path in paths])
    tensors = torch.from_numpy(arrays).permute(0, 3, 1, 2)
    expected = model.encode_image(paths)
    assert expected.shape == (5, WIDTH)
    mixed = [paths[0], str(paths[1]), arrays[2], tensors[3], tensors[4] / 255]
    for images in (tuple(paths), arrays, tensors, tensors / 255, list(arrays), mixed):
        assert torch.equal(model.encode_image(images), expected), type(images)


def test_training_and_use_see_the_same_pixels(
    model: Embedder, paths: list[Path], pairs_folder: Path
) -> None:
    source = open_splits(str(pairs_folder), image_size=32, seed=0, max_bad=0.01).split("test")
    inputs = evaluation_set(source, items=5, captions=1, image_size=32).images
    own = model.embeddings_of_inputs(inputs, ["a ball"])
    given = model.embeddings(paths, ["a ball"])
    assert torch.equal(own.image, given.image)
    assert torch.equal(own.text, given.text)


def test_images_are_normalised_as_the_card_says(
    tiny_run: Path, paths: list[Path], pairs_folder: Path
) -> None:
    other = tijepa.load(tiny_run)
    mean, std = (0.2, 0.3, 0.4), (0.25, 0.5, 1.0)
    other.card = replace(other.card, mean=mean, std=std)
    source = open_splits(str(pairs_folder), image_size=32, seed=0, max_bad=0.01).split("test")
    inputs = evaluation_set(source, items=5, captions=1, image_size=32, mean=mean, std=std).images
    given = other.embeddings(paths, ["a ball"])
    assert torch.equal(other.embeddings_of_inputs(inputs, ["a ball"]).image, given.image)
    assert not torch.equal(tijepa.load(tiny_run).embeddings(paths, ["a ball"]).image, given.image)


def test_an_image_of_any_size_and_shape_is_cropped_to_its_centre(model: Embedder) -> None:
    """Whatever lies outside the central square does not matter."""
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (40, 90, 3), dtype=np.uint8)
    other = wide.copy()
    other[:, :25] = 0
    other[:, 65:] = 255
    assert torch.equal(model.encode_image(wide), model.encode_image(other))
    assert torch.equal(model.encode_image(wide), model.encode_image(wide[:, 25:65]))
    assert model.encode_image(wide[:1, :1]).isfinite().all()


def test_transparency_and_orientation_are_read_as_from_a_file(
    model: Embedder, paths: list[Path], tmp_path: Path
) -> None:
    with Image.open(paths[0]) as opened:
        clear = opened.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    clear.save(tmp_path / "clear.png")
    assert torch.equal(model.encode_image(clear), model.encode_image(tmp_path / "clear.png"))
    exif = Image.Exif()
    exif[0x0112] = 6
    clear.convert("RGB").save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as turned:
        assert torch.equal(model.encode_image(turned), model.encode_image(tmp_path / "turned.png"))
    assert model.encode_image(clear.convert("CMYK")).shape == (1, WIDTH)
    assert model.encode_image(clear.convert("L")).shape == (1, WIDTH)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8), np.uint8), r"uint8 \[8, 8\]"),
        (np.zeros((8, 8, 4), np.uint8), r"uint8 \[8, 8, 4\]"),
        (np.zeros((8, 0, 3), np.uint8), r"uint8 \[8, 0, 3\]"),
        (np.zeros((8, 8, 3), np.float32), r"float32 \[8, 8, 3\]"),
        (torch.zeros(8, 8, 3), r"image tensor is \[8, 8, 3\]; give \(3, height, width\)"),
        (torch.full((3, 8, 8), 255.0), r"values from 255 to 255; give floats in \[0, 1\]"),
        (torch.full((3, 8, 8), -1.0), "values from -1 to -1"),
        (torch.full((3, 8, 8), torch.nan), "values from nan"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), r"int64 \[8, 8, 3\]"),
        (torch.zeros(3, 0, 8), r"float|uint8"),
    ],
)
def test_what_is_no_image_is_an_error_that_names_it(
    image: np.ndarray | torch.Tensor, message: str, model: Embedder
) -> None:
    with pytest.raises(DataError, match=message) as raised:
        model.encode_image(image)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_image_is_an_error_that_names_it(
    model: Embedder, paths: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"cannot read image .*none\.png: No such file"):
        model.encode_image([paths[0], tmp_path / "none.png"])
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"image .*text\.png: not an image of a known format"):
        model.encode_image(tmp_path / "text.png")
    (tmp_path / "cut.png").write_bytes(paths[0].read_bytes()[:200])
    with Image.open(tmp_path / "cut.png") as cut, pytest.raises(DataError, match="cannot be"):
        model.encode_image(cut)


def test_bytes_and_open_files_are_read_as_their_path_is(model: Embedder, paths: list[Path]) -> None:
    expected, data = model.encode_image(paths), [path.read_bytes() for path in paths]
    assert torch.equal(model.encode_image(data), expected)
    assert torch.equal(model.encode_image(data[0]), model.encode_image(paths[0]))
    files = [io.BytesIO(data[0]), *paths[1:]]
    assert torch.equal(model.encode_image(files), expected)
    with paths[2].open("rb") as file:
        assert torch.equal(model.encode_image(file), model.encode_image(paths[2]))


def test_what_is_no_image_or_text_is_named_by_its_number(
    model: Embedder, paths: list[Path], tmp_path: Path
) -> None:
    no_images: list[tuple[Any, str]] = [
        ([paths[0], paths[1], b"no image"], r"image 2: not an image of a known format"),
        (b"", r"image: the image has no bytes"),
        (["a\0b.png"], r"cannot read image 'a\\x00b\.png': .*null byte"),
        (["\ud800.png"], r"cannot read image '\\ud800\.png': "),
        (io.StringIO("text"), r"image is a file of text: open it as 'rb'"),
    ]
    for images, message in no_images:
        with pytest.raises(DataError, match=message):
            model.encode_image(images)
    closed = paths[0].open("rb")
    closed.close()
    with pytest.raises(DataError, match=r"image is a file that cannot be read: .*closed"):
        model.encode_image(closed)
    with pytest.raises(DataError, match=r"text 1 holds half of a surrogate pair, '\\ud83d' at"):
        model.encode_text(["a", "a \ud83d ball"])


# --- embeddings and energies ------------------------------------------------------------------


@pytest.mark.parametrize("form", ["cosine", "squared_l2"])
def test_no_image_and_no_text_give_no_rows(model: Embedder, form: str) -> None:
    assert model.encode_image([], form=form).shape == (0, 16)
    assert model.encode_text([], form=form).shape == (0, 16)
    assert model.encode_image(torch.zeros(0, 3, 8, 8), form=form).shape == (0, 16)
    assert model.energy([], ["a"]).shape == (0, 1)


def test_an_embedding_does_not_depend_on_the_others_of_its_call(
    model: Embedder, paths: list[Path]
) -> None:
    images, texts = model.encode_image(paths), model.encode_text(TEXTS)
    for size in (1, 2, 3):
        assert torch.allclose(model.encode_image(paths, batch_size=size), images, atol=1e-5)
        assert torch.allclose(model.encode_text(TEXTS, batch_size=size), texts, atol=1e-5)
    for row, text in enumerate(TEXTS):
        assert torch.allclose(model.encode_text(text), texts[row : row + 1], atol=1e-5)
    turned = model.encode_text(TEXTS[::-1])
    assert torch.allclose(turned.flip(0), texts, atol=1e-5)


def test_rows_are_by_default_of_the_form_that_results_are_reported_by(
    model: Embedder, paths: list[Path]
) -> None:
    assert model.default_form == "calibrated"
    images, texts = model.encode_image(paths), model.encode_text(TEXTS)
    torch.testing.assert_close(-images @ texts.T, model.energy(paths, TEXTS), atol=1e-3, rtol=1e-4)


def test_cosine_energy_is_one_minus_the_product_of_embeddings(
    model: Embedder, paths: list[Path]
) -> None:
    images = model.encode_image(paths, form="cosine")
    texts = model.encode_text(TEXTS, form="cosine")
    assert images.shape == texts.shape == (5, 16)
    assert torch.allclose(images.norm(dim=1), torch.ones(5), atol=1e-6)
    assert torch.allclose(texts.norm(dim=1), torch.ones(5), atol=1e-6)
    energy = model.energy(paths, TEXTS, form="cosine")
    assert torch.allclose(1 - images @ texts.T, energy, atol=1e-6)
    assert energy.min() >= -1e-6
    assert energy.max() <= 2 + 1e-6


def test_squared_l2_energy_is_half_the_squared_distance_of_embeddings_per_dimension(
    model: Embedder, paths: list[Path]
) -> None:
    """D = 8."""
    images = model.encode_image(paths, form="squared_l2")
    texts = model.encode_text(TEXTS, form="squared_l2")
    by_hand = (images[:, None] - texts[None]).square().sum(dim=2) / 2 / 8
    energy = model.energy(paths, TEXTS, form="squared_l2")
    assert torch.allclose(by_hand, energy, rtol=1e-5, atol=1e-7)
    assert (energy >= 0).all()


def test_the_calibrated_energy_is_the_default_of_a_calibrated_model(
    model: Embedder, paths: list[Path]
) -> None:
    assert model.forms == ["calibrated", "cosine", "squared_l2"]
    energy = model.energy(paths[:3], TEXTS)
    assert energy.shape == (3, 5)
    assert torch.equal(energy, model.energy(paths[:3], TEXTS, form="calibrated"))
    assert model.calibration is not None
    e = model.embeddings(paths[:3], TEXTS)
    assert torch.equal(energy, model.calibration.energy(e))


def test_calibrated_energy_is_minus_the_product_of_embeddings(
    model: Embedder, paths: list[Path]
) -> None:
    """In halves of 2 D = 16 dimensions of the heads, those of the direct expert, and two more."""
    assert model.calibration is not None
    direct = model.calibration.direct
    kept = 0 if direct is None else len(direct.to_text.predicted_whiten)
    images = model.encode_image(paths, form="calibrated")
    texts = model.encode_text(TEXTS, form="calibrated")
    assert images.shape == texts.shape == (5, 2 * (16 + kept + 2))
    energy = model.energy(paths, TEXTS, form="calibrated")
    scale = images.norm(dim=1).max() * texts.norm(dim=1).max()  # float32 products round by this
    assert torch.allclose(-images @ texts.T, energy, rtol=1e-4, atol=float(1e-6 * scale))


def test_probability_of_match_falls_with_energy_and_rises_with_the_prior(
    model: Embedder, paths: list[Path]
) -> None:
    assert model.match is not None
    energy, half = model.energy(paths, TEXTS), model.match_probability(paths, TEXTS)
    assert half.shape == (5, 5)
    assert torch.equal(half, model.match.probability(energy))
    rare = model.match_probability(paths, TEXTS, prior=0.01)
    assert torch.allclose(rare.logit() - half.logit(), torch.tensor(0.01).logit(), atol=1e-3)
    with pytest.raises(ConfigError, match=r"prior is 1\.0: it must lie between 0 and 1"):
        model.match_probability(paths, TEXTS, prior=1.0)


def test_the_energy_of_one_pair_is_its_cell_of_the_matrix(
    model: Embedder, paths: list[Path]
) -> None:
    for form in model.forms:
        matrix = model.energy(paths, TEXTS, form=form)
        one = model.energy(paths[2], TEXTS[1], form=form)
        assert one.shape == (1, 1)
        assert torch.allclose(one[0, 0], matrix[2, 1], rtol=1e-4, atol=1e-4), form


def test_features_of_pairs_are_those_of_their_own_image_and_text(
    model: Embedder, paths: list[Path]
) -> None:
    """D is 8: the row of a pair has 6 · 8 numbers, and depends on no other pair."""
    features = model.encode_pair(paths, TEXTS)
    assert features.shape == (5, 48)
    for row, (path, text) in enumerate(zip(paths, TEXTS, strict=True)):
        alone = model.encode_pair(path, text)
        torch.testing.assert_close(alone, features[row : row + 1], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        model.encode_pair(paths, TEXTS, batch_size=2), features, atol=1e-5, rtol=0
    )
    assert model.encode_pair([], []).shape == (0, 48)
    with pytest.raises(DataError, match="5 images and 1 texts are no pairs"):
        model.encode_pair(paths, "a ball")


def test_a_model_with_a_fusion_gives_the_mean_of_its_fused_tokens(
    tiny_config: Callable[..., RunConfig], model: Embedder, paths: list[Path]
) -> None:
    """The fusion is 12 wide; the joint features stay there for the asking."""
    config = tiny_config(
        "objective.tasks.fusion_infill=1", "model.fusion={width: 12, depth: 1, heads: 2}"
    )
    built = build_model(config, model.tokenizer.vocab_size)
    for parameter in built.parameters():  # strong weights: at fresh ones a text hardly counts
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)
    fused = Embedder(built, model.tokenizer, model.card)
    features = fused.encode_pair(paths, TEXTS, batch_size=2)
    assert features.shape == (5, 12)
    tokens = model.tokenizer.encode(TEXTS[:1], model.card.max_tokens)
    inputs = torch.from_numpy(pixels(paths[0])).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        image, text = built.context.image(inputs), built.context.text(tokens.ids, tokens.mask)
        assert built.context.fusion is not None
        expected = built.context.fusion(image, text).tokens.mean(dim=1)
    torch.testing.assert_close(features[:1], expected, atol=1e-5, rtol=0)
    other = fused.encode_pair(paths, [*TEXTS[1:], TEXTS[0]])
    assert ((other - features).abs().amax(dim=1) > 1e-4).all(), "the text counts"
    assert fused.encode_pair(paths, TEXTS, features="joint").shape == (5, 48)
    assert fused.encode_pair([], []).shape == (0, 12)
    with pytest.raises(ConfigError, match="'fused' need a model with a fusion"):
        model.encode_pair(paths, TEXTS, features="fused")


def test_texts_beyond_the_length_of_the_model_are_cut(model: Embedder) -> None:
    """16 tokens: the class token and 15 others."""
    same = "ball cube " * 20
    assert torch.allclose(
        model.encode_text(same), model.encode_text(same + "star " * 50), atol=1e-6
    )


def test_results_can_be_trained_on(model: Embedder, paths: list[Path]) -> None:
    """No inference tensors, no graph: a probe on top of embeddings just works."""
    features = model.encode_image(paths)
    assert not features.requires_grad
    probe = torch.nn.Linear(WIDTH, 1)
    probe(features).sum().backward()
    assert probe.weight.grad is not None


def test_arguments_of_a_wrong_type_are_errors_of_one_line(tiny_run: Path) -> None:
    calls = (
        'tijepa.load(RUN).encode_text(["a", 3])',
        "tijepa.load(RUN).encode_text(None)",
        "tijepa.load(RUN).encode_image([3])",
        "tijepa.load(RUN).encode_image(None)",
        "tijepa.load(RUN).encode_image([b'', None])",
        'tijepa.load(RUN).encode_image([], form="l1")',
        'tijepa.load(RUN).encode_text([], form="l2")',
        'tijepa.load(RUN).energy([], [], form="l1")',
    )
    assert complaints(tiny_run, calls) == [
        "text 1 is 3, not a string",
        "text is None, not a string",
        "image is of type int; give a path, bytes, a file, a PIL image, an array or a tensor",
        "image is of type NoneType; give a path, bytes, a file, a PIL image, an array or a tensor",
        "image 0: the image has no bytes",
        "form 'l1' is unknown; known: calibrated, cosine, squared_l2",
        "form 'l2' is unknown; known: calibrated, cosine, squared_l2",
        "form 'l1' is unknown; known: calibrated, cosine, squared_l2",
    ]


def test_a_batch_size_below_one_is_an_error(model: Embedder, paths: list[Path]) -> None:
    with pytest.raises(ConfigError, match="batch_size is 0"):
        model.encode_text("a", batch_size=0)
    with pytest.raises(ConfigError, match="batch_size is -1"):
        model.encode_image(paths, batch_size=-1)


def test_a_model_without_calibration_says_so(tiny_run: Path, paths: list[Path]) -> None:
    bare = tijepa.load(tiny_run)
    bare.calibration = None
    assert bare.default_form == "cosine"
    assert torch.equal(bare.energy(paths, "a"), bare.energy(paths, "a", form="cosine"))
    for call in (bare.energy, lambda x, _, form: bare.encode_image(x, form=form)):
        with pytest.raises(ConfigError, match="needs a calibration, which this model lacks"):
            call(paths, "a", form="calibrated")
    with pytest.raises(ConfigError, match="needs a calibration, which this model lacks"):
        bare.encode_text("a", form="calibrated")
    with pytest.raises(ConfigError, match="no probability of match") as raised:
        bare.match_probability(paths, "a")
    assert "\n" not in str(raised.value)


def test_a_model_without_predictors_prefers_its_cosine(
    tiny_config: Callable[..., RunConfig], model: Embedder, paths: list[Path]
) -> None:
    """CLIP: each modality's embedding is its own prediction, so E = 1 − cos(z_I, z_T)."""
    clip = Embedder(
        build_model(tiny_config("objective.name=clip"), model.tokenizer.vocab_size),
        model.tokenizer,
        model.card,
        model.calibration,
    )
    assert clip.default_form == "cosine"
    assert clip.encode_pair(paths, TEXTS).shape == (5, 24)
    e = clip.embeddings(paths, TEXTS)
    assert torch.allclose(clip.energy(paths, TEXTS), 1 - e.image @ e.text.T, atol=1e-6)


# --- loading ----------------------------------------------------------------------------------


def same_weights(one: Embedder, other: Embedder) -> bool:
    theirs = other.model.state_dict()
    return all(torch.equal(value, theirs[k]) for k, value in one.model.state_dict().items())


def test_a_run_a_model_folder_and_a_checkpoint_can_be_loaded(
    tiny_run: Path, model: Embedder
) -> None:
    assert same_weights(model, tijepa.load(str(tiny_run / "model")))
    assert same_weights(model, tijepa.load(tiny_run / "checkpoints/step-00000006"))
    assert same_weights(model, tijepa.load(tiny_run, checkpoint="last"))
    assert same_weights(model, tijepa.load(tiny_run, checkpoint="6", device="cpu"))
    assert not same_weights(model, tijepa.load(tiny_run, checkpoint="3"))


def test_an_unfinished_run_gives_its_best_else_its_last_checkpoint(run: Path) -> None:
    shutil.rmtree(run / "model")
    assert model_folder(run) == run / "checkpoints/step-00000006"
    (run / "checkpoints/best.json").write_text(json.dumps({"step": 3, "recall": 0.5}))
    assert model_folder(run) == run / "checkpoints/step-00000003"
    assert model_folder(run, "best") == run / "checkpoints/step-00000003"
    assert model_folder(run, "last") == run / "checkpoints/step-00000006"
    (run / "checkpoints/best.json").write_text(json.dumps({"step": 4, "recall": 0.5}))
    assert checkpoint_folder(run, "best") is None
    assert model_folder(run) == run / "checkpoints/step-00000006"


@pytest.mark.parametrize("checkpoint", ["best", "4", "newest", "²"])
def test_a_checkpoint_that_is_not_there_is_an_error_that_lists_those_that_are(
    checkpoint: str, tiny_run: Path
) -> None:
    assert not (tiny_run / "checkpoints/best.json").exists()
    with pytest.raises(CheckpointError, match=r"it has step-00000003, step-00000006$"):
        tijepa.load(tiny_run, checkpoint=checkpoint)


def test_folders_that_hold_no_model_are_errors(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a folder; give a run folder"):
        tijepa.load(tmp_path / "none")
    with pytest.raises(CheckpointError, match=r"no model 'final' in .*; it has no checkpoints"):
        tijepa.load(tmp_path)


@pytest.mark.parametrize("text", ["{", "[3]", '{"step": "3"}'])
def test_a_damaged_pointer_to_the_best_is_an_error(text: str, run: Path) -> None:
    (run / "checkpoints/best.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"best\.json is damaged"):
        tijepa.load(run, checkpoint="best")


@pytest.mark.parametrize("name", ["model.safetensors", "calibration.safetensors"])
def test_damaged_tensors_are_an_error_that_names_the_file(name: str, run: Path) -> None:
    path = run / "model" / name
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match=f"{name} is damaged"):
        tijepa.load(run)


def test_an_incomplete_calibration_is_an_error(run: Path) -> None:
    path = run / "model/calibration.safetensors"
    tensors = load_tensors(path)
    del tensors["heads.to_text.offset"]
    save_tensors(tensors, path)
    with pytest.raises(CheckpointError, match=r"it lacks 'heads\.to_text\.offset'"):
        tijepa.load(run)


def test_a_calibration_without_probability_of_match_still_gives_energies(run: Path) -> None:
    """As written where there are no held-out pairs; half of a probability is damage."""
    path = run / "model/calibration.safetensors"
    tensors = load_tensors(path)
    del tensors["match.pair.slope"]
    save_tensors(tensors, path)
    with pytest.raises(CheckpointError, match=r"it lacks 'match\.pair\.slope'"):
        tijepa.load(run)
    save_tensors({n: x for n, x in tensors.items() if not n.startswith("match")}, path)
    loaded = tijepa.load(run)
    assert loaded.match is None
    assert loaded.default_form == "calibrated"


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta:7x"])
def test_a_device_that_cannot_be_used_is_an_error(device: str, tiny_run: Path) -> None:
    with pytest.raises(ConfigError, match=f"device '{device}' cannot be used here"):
        tijepa.load(tiny_run, device=device)


# --- energy maps ------------------------------------------------------------------------------


class ColourMeter(nn.Module):
    """In place of the image encoder: how red and how blue an image is, and a constant."""

    width = pooled_width = 3

    def forward(self, images: torch.Tensor) -> Encoded:
        red, _, blue = images.clamp(min=0).mean(dim=(2, 3)).unbind(dim=1)
        pooled = torch.stack([red, blue, torch.full_like(red, 0.02)], dim=1)
        b = len(images)
        one = torch.ones(b, 1, dtype=torch.bool)
        return Encoded(pooled[:, None], torch.zeros(b, 1, dtype=torch.int64), one, pooled)


class ColourWords(nn.Module):
    """In place of the text encoder: whether a text holds the word red, or blue."""

    width = pooled_width = 3

    def __init__(self, red: int, blue: int) -> None:
        super().__init__()
        self.words = (red, blue)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> Encoded:
        found = [(ids == word).any(dim=1).float() for word in self.words]
        pooled = torch.stack([*found, torch.zeros(len(ids))], dim=1)
        position = torch.arange(ids.shape[1]).expand(len(ids), -1)
        return Encoded(pooled[:, None].expand(-1, ids.shape[1], -1), position, mask, pooled)


@pytest.fixture
def colours() -> Embedder:
    """A model without predictors whose energy is low where an image has the colour of the text."""
    tokenizer = Tokenizer.train(["a red ball and a blue ball"] * 9, 4096)
    size = {"width": 4, "depth": 1, "heads": 1}
    arguments = {
        "image": {"image_size": 32, "patch_size": 8, **size},
        "text": {"vocab_size": tokenizer.vocab_size, "max_tokens": 8, **size},
        "head": {"hidden": 1, "depth": 0},
        "embed_dim": 3,
    }
    model = TextImageModel(encoders=arguments, predictors=None, ema=False)
    words = tokenizer.encode(["red", "blue"], 8)
    model.context.image = ColourMeter()
    model.context.text = ColourWords(int(words.ids[0, 1]), int(words.ids[1, 1]))
    model.context.image_head, model.context.text_head = nn.Identity(), nn.Identity()
    return Embedder(model, tokenizer, ModelCard({}, "clip", 32, 8))


def spotted() -> np.ndarray:
    """Black, 32 x 32 pixels, red in cell (2, 5) and blue in cell (6, 1) of 8 x 8 cells of 4."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[8:12, 20:24, 0] = 255
    pixels[24:28, 4:8, 2] = 255
    return pixels


def test_the_map_is_lowest_where_what_the_text_names_is(colours: Embedder) -> None:
    for text, cell in (("a red ball", (2, 5)), ("blue", (6, 1))):
        energy = colours.energy_map(spotted(), text)
        assert energy.shape == (8, 8)
        assert divmod(int(energy.argmin()), 8) == cell
        assert int((energy == energy.min()).sum()) == 1


def test_each_cell_is_the_energy_of_the_image_through_its_opening(colours: Embedder) -> None:
    """Cell (2, 5) of 4 pixels, opening of 6: rows 7 to 12, columns 19 to 24; the median is black,
    so painting all else black by hand gives the same pair."""
    by_hand = np.zeros((32, 32, 3), np.uint8)
    by_hand[7:13, 19:25] = spotted()[7:13, 19:25]
    for text in ("a red ball", "a blue ball"):
        expected = colours.energy(by_hand, text)[0, 0]
        torch.testing.assert_close(colours.energy_map(spotted(), text)[2, 5], expected)


def test_maps_of_several_texts_are_those_of_each(model: Embedder, paths: list[Path]) -> None:
    source = torch.stack([torch.from_numpy(pixels(paths[0])).permute(2, 0, 1) / 127.5 - 1])[0]
    maps = model.energy_maps_of_input(source, TEXTS[:2], grid=4, form="cosine")
    for row, text in enumerate(TEXTS[:2]):
        own = model.energy_map(paths[0], text, grid=4, form="cosine")
        torch.testing.assert_close(maps[row], own, atol=1e-5, rtol=0)


@pytest.mark.parametrize("grid", [0, -1, 17])
def test_a_grid_out_of_bounds_is_refused(grid: int, model: Embedder, paths: list[Path]) -> None:
    with pytest.raises(ConfigError, match=f"grid is {grid}: it must lie between 1 and 16"):
        model.energy_map(paths[0], "a ball", grid=grid)
