"""One update: exact under accumulation, reproducible, in order, and none where it is not finite."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tijepa.config import load_config
from tijepa.data.pairs import Batch
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.base import Objective
from tijepa.objectives.forward import encode
from tijepa.registry import entries
from tijepa.training.build import build_model, build_objective
from tijepa.training.optimizer import ScheduleValues, build_optimizer
from tijepa.training.step import Compute, StepOutput, training_step

SIZE = [
    "data.image_size=12",
    "data.max_tokens=8",
    "model.embed_dim=6",
    "model.image={patch_size: 4, width: 8, depth: 1, heads: 2, mlp_ratio: 2}",
    "model.text={width: 8, depth: 1, heads: 2, mlp_ratio: 2}",
    "model.head={depth: 1, hidden: 10, norm: batch}",
]
EVERYTHING = [
    "objective.name=tijepa",
    "objective.energy=squared_l2",
    "objective.pooled_targets=ema",
    "objective.token_targets=ema",
    "objective.tasks={text_to_image: {pooled: 1, tokens: 0.5}, image_to_text: {pooled: 1, "
    "tokens: 0.5}, image_infill: 1, text_infill: 1, image_only: 1, text_only: 1, fusion_infill: 1}",
    "model.fusion={width: 8, depth: 1, heads: 2, mlp_ratio: 2}",
    "objective.regularize_image={name: sigreg, weight: 0.1, slices: 8}",
    "objective.regularize_text={name: vicreg, weight: 0.2}",
    "model.token_predictor={width: 8, depth: 1, heads: 2, mlp_ratio: 2}",
    "model.pooled_predictor={depth: 1, hidden: 10, norm: batch}",
]
POOLED = [
    "objective.name=tijepa",
    "objective.energy=squared_l2",
    "objective.pooled_targets=stop_gradient",
    "objective.tasks.text_to_image={pooled: 1, tokens: 0}",
    "objective.tasks.image_to_text={pooled: 1, tokens: 0}",
    "objective.regularize_image={name: sigreg, weight: 0.1, slices: 8}",
    "objective.regularize_text={name: sigreg, weight: 0.1, slices: 8}",
    "model.pooled_predictor={depth: 1, hidden: 10, norm: batch}",
]
OBJECTIVES = {
    "everything": EVERYTHING,
    "pooled": POOLED,
    "clip": ["objective.name=clip"],
    "siglip": ["objective.name=siglip"],
    "vicreg": ["objective.name=vicreg"],
    "fused": [
        "objective.name=tijepa",
        "objective.tasks={text_to_image: {pooled: 0}, image_to_text: {pooled: 0}, "
        "fusion_infill: 1}",
        "objective.regularize_image={name: none}",
        "objective.regularize_text={name: none}",
        "model.fusion={width: 8, depth: 1, heads: 2, mlp_ratio: 2}",
        "model.token_predictor={width: 8, depth: 1, heads: 2, mlp_ratio: 2}",
    ],
    "standardised targets, visreg": [
        *POOLED[:-3],
        "objective.pooled_target_norm=standardise",
        "objective.regularize_image={name: visreg, weight: 0.1, slices: 8}",
        "objective.regularize_text={name: visreg, weight: 0.1, slices: 8}",
        "model.pooled_predictor={depth: 1, hidden: 10, norm: batch}",
    ],
}
CPU = Compute(torch.device("cpu"), torch.float32)
RATES = ScheduleValues(lr=1e-2, weight_decay=0.1, ema_momentum=0.5)


@dataclass
class Learner:
    model: TextImageModel
    objective: Objective
    optimizer: torch.optim.Optimizer

    def step(
        self,
        batch: Batch,
        rates: ScheduleValues = RATES,
        *,
        seed: tuple[int, ...] = (0, 0, 0),
        compute: Compute = CPU,
        accumulate: int = 1,
        clip_norm: float = 1e9,
    ) -> StepOutput:
        return training_step(
            self.model,
            self.objective,
            self.optimizer,
            batch,
            rates,
            seed=seed,
            compute=compute,
            accumulate=accumulate,
            clip_norm=clip_norm,
        )

    def gradient(self) -> dict[str, Tensor]:
        named = [*self.model.named_parameters(), *self.objective.named_parameters()]
        return {name: p.grad for name, p in named if p.grad is not None}

    def state(self) -> dict[str, Tensor]:
        """Everything that training changes, copied."""
        found = dict(self.model.state_dict(prefix="model."))
        found |= self.objective.state_dict(prefix="objective.")
        for number, moments in self.optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
        return {name: value.detach().clone() for name, value in found.items()}


def learner(objective: str) -> Learner:
    config = load_config(overrides=[*SIZE, *(OBJECTIVES | TASKS | REGISTERED)[objective], "seed=0"])
    model, built = build_model(config, 64).train(), build_objective(config)
    for parameter in model.context.parameters():  # the EMA copy must differ from its context
        if parameter.dim() > 1:
            parameter.data.mul_(3.0)
    return Learner(model, built, build_optimizer([model, built], lr=1.0, betas=(0.9, 0.95)))


def batch(count: int = 8, *, mixed: bool = False, seed: int = 0) -> Batch:
    """Captions of 3 to 8 tokens; `mixed` takes the image or the text from some items."""
    generator = torch.Generator().manual_seed(seed)
    number = torch.arange(count)
    has_image, has_text = number % 4 != 1, number % 5 != 2
    if not mixed:
        has_image = has_text = torch.ones(count, dtype=torch.bool)
    lengths = torch.where(has_text, torch.randint(3, 9, (count,), generator=generator), 1)
    mask = torch.arange(8).expand(count, -1) < lengths[:, None]
    tokens = torch.randint(2, 64, (count, 8), generator=generator)
    tokens[:, 0] = 1
    images = torch.rand(count, 3, 12, 12, generator=generator) * 2 - 1
    return Batch(
        images=images * has_image[:, None, None, None],
        has_image=has_image,
        tokens=tokens * mask,
        token_mask=mask,
        has_text=has_text,
        indices=number,
        cursor=count,
    )


TASKS = {
    name: [
        "objective.name=tijepa",
        "objective.tasks={text_to_image: {pooled: 0}, image_to_text: {pooled: 0}, " + task + "}",
        "objective.regularize_image={name: visreg, weight: 0.1, slices: 8}",
        "objective.regularize_text={name: vicreg, weight: 0.1}",
        "model.token_predictor={width: 8, depth: 1, heads: 2, mlp_ratio: 2}",
    ]
    for name, task in {
        "image infill": "image_infill: 1",
        "text infill": "text_infill: 1",
        "image only": "image_only: 1",
        "text only": "text_only: 1",
    }.items()
}
REGISTERED = {
    **{f"objective {name}": [f"objective.name={name}"] for name in entries("objective")},
    **{
        f"regularizer {name}": [
            "objective.name=tijepa",
            f"objective.regularize_image.name={name}",
            f"objective.regularize_text.name={name}",
        ]
        for name in entries("regularizer")
    },
    **{
        f"energy {name}": [
            "objective.name=tijepa",
            f"objective.energy={name}",
            "objective.tasks.text_to_image={pooled: 1, tokens: 1}",
            "model.token_predictor={width: 8, depth: 1, heads: 2, mlp_ratio: 2}",
        ]
        for name in entries("energy")
    },
    **{
        f"predictor {name}": ["objective.name=tijepa", f"model.pooled_predictor.kind={name}"]
        for name in entries("predictor")
    },
}
# an objective of `OBJECTIVES` that is a registered one as it comes is not run twice
EACH_ONCE = [
    *(name for name in OBJECTIVES if f"objective {name}" not in REGISTERED),
    *TASKS,
    *REGISTERED,
]
WAITING = {
    "new_tensor",
    "item",
    "tolist",
    "cpu",
    "numpy",
    "nonzero",
    "__bool__",
    "__int__",
    "__float__",
}


class WaitError(Exception):
    """The host would wait for the device here."""


class NoMethodThatReads(TorchFunctionMode):
    """Raises where a tensor becomes a number of Python, also in C++ that dispatches nothing."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function.__name__ in WAITING:
            raise WaitError(function.__name__)
        return function(*args, **(kwargs or {}))


class NoOperatorThatReads(TorchDispatchMode):
    """Raises at operators whose result has a size, or a type, that the host must be told."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = str(function).removeprefix("aten.")
        reads = (
            "_local_scalar_dense",
            "nonzero",
            "is_nonzero",
            "masked_select",
            "equal",
            "_unique",
        )
        by_mask = name.startswith("index") and any(
            isinstance(part, Tensor) and part.dtype is torch.bool
            for argument in args[1:]
            if isinstance(argument, list | tuple)
            for part in argument
        )
        if name.startswith(reads) or by_mask:
            raise WaitError(name)
        return function(*args, **(kwargs or {}))


@contextmanager
def nothing_read(made: Learner) -> Iterator[None]:
    """On a CPU what a GPU does: no packing of tokens, which costs a GPU more than it saves."""
    for part in made.model.modules():
        if hasattr(part, "packs"):
            part.packs = False
    with NoMethodThatReads(), NoOperatorThatReads():
        yield


def differing(a: dict[str, Tensor], b: dict[str, Tensor]) -> set[str]:
    """Names of the tensors that are not equal bit for bit."""
    assert a.keys() == b.keys(), a.keys() ^ b.keys()
    return {name for name, value in a.items() if not torch.equal(value, b[name])}


@pytest.mark.parametrize(
    ("objective", "accumulate", "mixed"),
    [*((name, 4, True) for name in OBJECTIVES), ("everything", 2, False), ("clip", 8, False)],
)
def test_accumulation_gives_the_gradient_of_the_whole_batch(
    objective: str, accumulate: int, mixed: bool
) -> None:
    """By the chain rule cut at the pooled tokens: BatchNorm, SIGReg and CLIP included.

    Up to rounding: the difference is below 1e-5 of the whole gradient's norm. Readings, running
    statistics and the updated targets agree as well.
    """
    whole, parts = learner(objective), learner(objective)
    one = whole.step(batch(mixed=mixed))
    many = parts.step(batch(mixed=mixed), accumulate=accumulate)
    expected, got = whole.gradient(), parts.gradient()
    assert expected.keys() == got.keys()
    norm = torch.stack([g.norm() for g in expected.values()]).norm()
    assert norm > 1e-2
    error = torch.stack([(got[name] - g).norm() for name, g in expected.items()]).norm()
    assert error < 1e-5 * norm
    torch.testing.assert_close(many.loss, one.loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(many.grad_norm, one.grad_norm, rtol=1e-5, atol=1e-6)
    assert many.terms.keys() == one.terms.keys()
    for name, value in one.terms.items():
        torch.testing.assert_close(many.terms[name], value, rtol=1e-4, atol=1e-6)
    for name, buffer in whole.model.named_buffers():
        torch.testing.assert_close(
            parts.model.get_buffer(name), buffer, rtol=1e-4, atol=1e-6, msg=name
        )


@pytest.mark.parametrize(
    ("objective", "accumulate", "mixed"),
    [
        *((name, 1, True) for name in EACH_ONCE),
        *((name, 2, True) for name in OBJECTIVES),
        ("everything", 1, False),
        ("clip", 2, False),
    ],
)
def test_a_step_reads_nothing_from_the_device(objective: str, accumulate: int, mixed: bool) -> None:
    made = learner(objective)
    ready = batch(mixed=mixed).to("cpu")
    with nothing_read(made):
        outputs = [made.step(ready, accumulate=accumulate) for _ in range(2)]
    assert all(output.finite for output in outputs)


@pytest.mark.parametrize(
    "reading",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.sum() > 1),
        lambda x: float(x.detach().sum()),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.new_tensor(1.0),
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        lambda x: (x > 0).nonzero(),
        lambda x: torch.where(x > 0),
        lambda x: "much" if x.sum() > 1 else "little",
    ],
)
def test_a_reading_put_into_the_step_is_found(
    reading: Callable[[Tensor], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = learner("pooled")
    plain = made.objective.batch_terms

    def reads(model: Any, pooled: Any, generator: Any) -> Any:
        reading(pooled.image)
        return plain(model, pooled, generator)

    monkeypatch.setattr(made.objective, "batch_terms", reads)
    ready = batch().to("cpu")
    made.step(ready)
    with nothing_read(made), pytest.raises(WaitError):
        made.step(ready)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU of CUDA")
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("objective", EACH_ONCE)
def test_a_step_on_a_gpu_never_waits_for_it(objective: str, accumulate: int) -> None:
    made = learner(objective)
    made.model.cuda()
    made.objective.cuda()
    ready, compute = batch(mixed=True).to("cuda"), Compute(torch.device("cuda"), torch.float32)
    made.step(ready, compute=compute, accumulate=accumulate)
    torch.cuda.set_sync_debug_mode("error")
    try:
        made.step(ready, compute=compute, accumulate=accumulate)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("objective", ["everything", "clip"])
def test_an_optimizer_that_cannot_skip_on_the_device_skips_all_the_same(objective: str) -> None:
    made = learner(objective)
    parameters = [p for group in made.optimizer.param_groups for p in group["params"]]
    made.optimizer = torch.optim.RMSprop(
        [{"params": parameters, "decays": False, "lr_scale": 1.0}], lr=0.01
    )
    before = made.state()
    broken = batch()
    broken.images[3, 1, 5, 5] = float("nan")
    assert not made.step(broken).finite
    after = made.state()
    assert all(torch.equal(before[name], after[name]) for name, _ in named(made))
    assert made.step(batch()).finite
    assert not all(
        torch.equal(before[n], value) for n, value in made.state().items() if n in before
    )


def named(made: Learner) -> list[tuple[str, Tensor]]:
    return list(made.model.named_parameters(prefix="model"))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_equal_seeds_give_equal_steps_bit_for_bit(objective: str) -> None:
    """Whatever the state of the global generators."""
    first, again = learner(objective), learner(objective)
    torch.manual_seed(1)
    a = first.step(batch(), seed=(5, 7, 0))
    torch.manual_seed(2)
    b = again.step(batch(), seed=(5, 7, 0))
    assert torch.equal(a.loss, b.loss)
    assert differing(first.state(), again.state()) == set()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_towers_at_once_step_like_one_after_the_other_bit_for_bit(objective: str) -> None:
    one, other = learner(objective), learner(objective)
    for number in range(3):
        one.step(batch(mixed=True, seed=number), seed=(0, number, 0))
        other.step(
            batch(mixed=True, seed=number),
            seed=(0, number, 0),
            compute=replace(CPU, tower_threads=1),
        )
    theirs = other.state()
    assert all(torch.equal(value, theirs[name]) for name, value in one.state().items())


@pytest.mark.parametrize("seed", [(6, 7, 0), (5, 8, 0), (5, 7, 1)])
def test_run_step_and_rank_each_change_masks_and_directions(seed: tuple[int, ...]) -> None:
    a = learner("everything").step(batch(), seed=(5, 7, 0))
    b = learner("everything").step(batch(), seed=seed)
    assert a.terms["energy/image_only/tokens"] != b.terms["energy/image_only/tokens"]
    assert a.terms["energy/text_only/tokens"] != b.terms["energy/text_only/tokens"]
    assert a.terms["regularizer/image"] != b.terms["regularizer/image"]
    assert a.terms["regularizer/text"] == b.terms["regularizer/text"], "VICReg has no directions"


@pytest.mark.parametrize(("objective", "passes"), [("fused", 1), ("everything", 2)])
def test_without_terms_of_the_whole_batch_accumulation_needs_no_first_pass(
    objective: str, passes: int
) -> None:
    """Four micro-batches: the target encoder of images runs once for each, or twice."""
    made = learner(objective)
    assert made.model.target is not None
    calls: list[int] = []
    made.model.target.image.register_forward_hook(lambda *_: calls.append(1))
    made.step(batch(), accumulate=4)
    assert len(calls) == 4 * passes


@pytest.mark.parametrize("momentum", [0.0, 0.75, 1.0])
def test_targets_move_after_the_update_by_the_rule(momentum: float) -> None:
    """θ̄' = τ θ̄ + (1 − τ) θ' with the *updated* θ'; running statistics alike."""
    made = learner("everything")
    assert made.model.target is not None
    old = copy.deepcopy(made.model.target.state_dict())
    before = copy.deepcopy(made.model.context.state_dict())
    made.step(batch(), ScheduleValues(lr=1e-2, weight_decay=0.0, ema_momentum=momentum))
    context, target = made.model.context.state_dict(), made.model.target.state_dict()
    changed = 0
    for name, value in context.items():
        if value.is_floating_point():
            expected = momentum * old[name] + (1 - momentum) * value
            torch.testing.assert_close(target[name], expected, msg=name)
            changed += int(not torch.equal(value, before[name]))
        else:
            assert torch.equal(target[name], value)
    assert changed > len(context) / 2, "the context did not move, so the order was not tested"


@pytest.mark.parametrize("accumulate", [1, 2])
def test_no_gradient_reaches_targets(accumulate: int) -> None:
    made = learner("everything")
    made.step(batch(), accumulate=accumulate)
    assert made.model.target is not None
    assert all(p.grad is None and not p.requires_grad for p in made.model.target.parameters())
    assert not any(part.training for part in made.model.target.modules())
    assert len(made.gradient()) > 50


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Compiled code cannot be traced through the run-time checks of shapes."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # the compiler's own
def test_a_compiled_model_steps_like_an_eager_one_and_its_targets_move() -> None:
    eager, compiled = learner("everything"), learner("everything")
    for part in (compiled.model.context.image, compiled.model.context.text):
        part.compile(backend="eager")
    before = compiled.state()
    a, b = eager.step(batch()), compiled.step(batch())
    torch.testing.assert_close(b.loss, a.loss)
    expected, got = eager.state(), compiled.state()
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        if name.startswith("model.target."):
            torch.testing.assert_close(got[name], value, msg=name, rtol=1e-4, atol=1e-5)
    moved = {
        n for n in before if n.startswith("model.target.") and not torch.equal(before[n], got[n])
    }
    assert {"model.target.image.stem.embed.weight", "model.target.text.embed.weight"} <= moved


@pytest.mark.parametrize(
    ("objective", "accumulate"),
    [*((name, 1) for name in OBJECTIVES), ("everything", 2), ("clip", 2)],
)
def test_a_loss_that_is_not_finite_updates_no_weight(objective: str, accumulate: int) -> None:
    """Neither parameters nor moments nor targets, bit for bit.

    Only running statistics of heads and predictors change: the forward pass had fed them before
    the loss was known.
    """
    made = learner(objective)
    assert made.step(batch()).finite
    before = made.state()
    broken = batch()
    broken.images[3, 1, 5, 5] = float("inf")
    reading = made.step(broken, accumulate=accumulate)
    assert not reading.finite
    assert not torch.isfinite(reading.loss)
    statistics = (".running_mean", ".running_var", ".num_batches_tracked")
    changed = differing(before, made.state())
    assert {name for name in changed if not name.endswith(statistics)} == set()
    assert not any(name.startswith("model.target.") for name in changed)


def test_the_reading_holds_the_norm_before_clipping_and_the_update_uses_the_clipped() -> None:
    free, clipped = learner("everything"), learner("everything")
    expected = free.step(batch()).grad_norm
    reading = clipped.step(batch(), clip_norm=0.01)
    torch.testing.assert_close(reading.grad_norm, expected)
    gradients = clipped.gradient()
    norm = torch.stack([g.norm() for g in gradients.values()]).norm()
    torch.testing.assert_close(norm, torch.tensor(0.01), rtol=1e-3, atol=0)
    for name, g in free.gradient().items():
        torch.testing.assert_close(gradients[name] / 0.01, g / expected, rtol=1e-3, atol=1e-5)


def test_rates_are_set_before_the_update() -> None:
    """Learning rate 0 moves nothing, whatever the optimizer was built with and whatever decays."""
    made = learner("clip")
    before = made.state()
    reading = made.step(batch(), ScheduleValues(lr=0.0, weight_decay=0.3, ema_momentum=1.0))
    assert reading.finite
    parameters = {f"model.{n}" for n, _ in made.model.named_parameters()}
    after = made.state()
    assert all(torch.equal(before[name], after[name]) for name in parameters)
    assert {g["lr"] for g in made.optimizer.param_groups} == {0.0}
    assert {g["weight_decay"] for g in made.optimizer.param_groups} == {0.3, 0.0}


def test_the_gradient_of_a_step_does_not_leak_into_the_next() -> None:
    twice, once = learner("pooled"), learner("pooled")
    still = ScheduleValues(lr=0.0, weight_decay=0.0, ema_momentum=1.0)
    twice.step(batch(seed=1), still)
    twice.step(batch(), still)
    once.step(batch(), still)
    for name, g in once.gradient().items():
        torch.testing.assert_close(twice.gradient()[name], g, msg=name)


@pytest.mark.parametrize("objective", ["everything", "clip"])
def test_repeated_steps_on_one_batch_lower_the_loss(objective: str) -> None:
    made = learner(objective)
    rates = ScheduleValues(lr=1e-2, weight_decay=0.0, ema_momentum=0.99)
    losses = [float(made.step(batch(), rates).loss) for _ in range(12)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("objective", ["pooled", "clip", "siglip"])
def test_a_batch_without_anything_to_learn_from_changes_no_weight(
    objective: str, accumulate: int
) -> None:
    """No decay either: nothing was learned, so nothing is forgotten."""
    made = learner(objective)
    poor = batch(2)
    poor = replace(
        poor,
        has_image=torch.tensor([True, False]),
        images=poor.images * torch.tensor([1.0, 0.0])[:, None, None, None],
        has_text=torch.tensor([False, True]),
        token_mask=poor.token_mask & (torch.arange(8) < torch.tensor([[1], [8]])),
    )
    before = {n: p.detach().clone() for n, p in made.model.named_parameters()}
    reading = made.step(poor, accumulate=accumulate)
    assert reading.finite
    assert reading.loss == 0
    assert all(torch.equal(p, before[n]) for n, p in made.model.named_parameters())


@pytest.mark.parametrize(
    ("objective", "accumulate"),
    [*((name, 1) for name in OBJECTIVES), ("everything", 2), ("clip", 2)],
)
def test_autocast_to_bf16_stays_close_to_float32(objective: str, accumulate: int) -> None:
    low = Compute(torch.device("cpu"), torch.bfloat16)
    exact = learner(objective).step(batch())
    made = learner(objective)
    reading = made.step(batch(), compute=low, accumulate=accumulate)
    assert reading.finite
    assert reading.loss.dtype is torch.float32
    torch.testing.assert_close(reading.loss, exact.loss, rtol=0.05, atol=0.05)
    assert all(g.dtype is torch.float32 for g in made.gradient().values())


def test_target_views_are_encoded_only_where_they_are_needed() -> None:
    for objective, needed in (("everything", True), ("pooled", False), ("clip", False)):
        made = learner(objective)
        encodings = encode(made.model, made.objective, batch())
        assert (encodings.target_image is not None) is needed
        assert (encodings.target_text is not None) is needed
        if encodings.target_image is not None:
            assert not encodings.target_image.tokens.requires_grad
        assert encodings.image.tokens.requires_grad
