"""The same questions asked of every loss: is it its formula, does it stay finite, does it still teach where it is
wrong."""

from __future__ import annotations

import math
import warnings

import pytest

torch = pytest.importorskip("torch")

import sys  # noqa: E402
from pathlib import Path  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
from losses_table import LOSSES, Case, D  # noqa: E402

from lossproof import losses as L  # noqa: E402

warnings.filterwarnings("ignore", message=".*lazyInitCUDA.*")


def some(*names: str, **true: object) -> list[object]:
    """Cases of some kinds of target, or with some properties."""
    return [
        pytest.param(case, id=case.name)
        for case in LOSSES
        if (not names or case.target in names) and all(getattr(case, key) == value for key, value in true.items())
    ]


def gradient(case: Case, *arguments: torch.Tensor, **settings: object) -> tuple[torch.Tensor, torch.Tensor]:
    x = arguments[0].detach().clone().requires_grad_()
    loss = case.call(x, *arguments[1:], **settings)
    (grad,) = torch.autograd.grad(loss.sum(), x)
    return loss.detach(), grad


@pytest.mark.parametrize("case", some())
def test_it_is_its_formula(case: Case) -> None:
    arguments = case.make(D)
    x = arguments[0].detach().clone().requires_grad_()
    expected = case.reference(x, *arguments[1:])
    (slope,) = torch.autograd.grad(expected, x)
    value, grad = gradient(case, *arguments)
    assert value.dtype == D
    assert value.item() == pytest.approx(expected.item(), abs=1e-10, rel=1e-10)
    torch.testing.assert_close(grad, slope, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("case", some())
def test_its_gradients_are_those_of_its_values(case: Case) -> None:
    x, *rest = case.make(D)
    x = x.detach().clone().requires_grad_()
    quick = x.numel() > 30
    assert torch.autograd.gradcheck(lambda v: case.call(v, *rest), x, fast_mode=quick)
    if case.smooth:
        assert torch.autograd.gradgradcheck(lambda v: case.call(v, *rest), x, fast_mode=quick)


@pytest.mark.parametrize("case", some(reductions=True))
def test_mean_and_sum_are_those_of_none(case: Case) -> None:
    arguments = case.make(D)
    none, mean, total = (case.call(*arguments, reduction=each) for each in ("none", "mean", "sum"))
    assert none.dim() > 0
    torch.testing.assert_close(none.sum(), total)
    if case.mean_of_elements:
        torch.testing.assert_close(none.mean(), mean)
    with pytest.raises(L.LossArgumentError, match=r"`reduction` should be one of .* Found 'batchmean'"):
        case.call(*arguments, reduction="batchmean")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("case", some())
def test_half_precision_is_as_good_as_its_inputs(case: Case, dtype: torch.dtype) -> None:
    arguments = [each.to(dtype) if each.dtype == D else each for each in case.make(D)]
    exact = [each.to(D) if each.dtype == dtype else each for each in arguments]
    value, grad = gradient(case, *arguments)
    expected, slope = gradient(case, *exact)
    assert value.dtype == torch.float32
    assert grad.dtype == dtype
    assert value.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-5)
    digits = {torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float32: 1e-4}[dtype]
    torch.testing.assert_close(grad.to(D), slope, rtol=digits, atol=digits * float(slope.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, D], ids=str)
@pytest.mark.parametrize("size", [20.0, 100.0, 1e4])
@pytest.mark.parametrize("case", some("binary"))
def test_a_confidently_wrong_answer_still_teaches(case: Case, size: float, dtype: torch.dtype) -> None:
    """Target 0 and 1, both predicted wrong with a logit of 20 to 10,000."""
    x = torch.tensor([size, -size], dtype=dtype)
    value, grad = gradient(case, x, torch.tensor([0.0, 1.0], dtype=dtype), reduction="none")
    assert torch.isfinite(value).all()
    assert torch.isfinite(grad).all()
    if not case.saturates:
        assert (value > size * 0.05).all()
        assert grad[0] > 0 > grad[1]
    value, grad = gradient(case, -x, torch.tensor([0.0, 1.0], dtype=dtype), reduction="none")
    assert torch.isfinite(value).all()
    assert torch.isfinite(grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, D], ids=str)
@pytest.mark.parametrize("size", [20.0, 100.0, 1e4])
@pytest.mark.parametrize("case", some("classes"))
def test_a_confidently_wrong_class_still_teaches(case: Case, size: float, dtype: torch.dtype) -> None:
    x = torch.zeros(4, 4, dtype=dtype)
    x[:, 0] = size
    y = torch.tensor([1, 2, 3, 1])
    value, grad = gradient(case, x, y, reduction="none")
    assert torch.isfinite(value).all()
    assert torch.isfinite(grad).all()
    if not case.saturates:
        assert (grad[:, 0] > 0).all()
        assert (grad.gather(1, y[:, None]) < 0).all()
    value, grad = gradient(case, x, torch.zeros(4, dtype=torch.long), reduction="none")
    assert torch.isfinite(value).all()
    assert torch.isfinite(grad).all()


@pytest.mark.parametrize("case", [each for each in some("binary") if not each.values[0].saturates])
def test_no_logit_up_to_120_is_dead(case: Case) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        x = torch.arange(1, 121, 0.5).to(dtype)
        _, grad = gradient(case, torch.cat([x, -x]), torch.cat([torch.zeros_like(x), torch.ones_like(x)]))
        assert torch.isfinite(grad).all()
        assert (grad != 0).all()


@pytest.mark.parametrize("case", some("masks", "regions", "numbers"))
def test_extreme_predictions_stay_finite(case: Case) -> None:
    for size in (1e4, -1e4, 30.0, 0.0):
        for dtype in (torch.float32, torch.float16):
            if "poisson" in case.name and size > (80 if dtype == torch.float32 else 10):
                continue  # the rate itself, and its gradient, are larger than the dtype holds
            x, *rest = case.make(dtype)
            value, grad = gradient(case, torch.full_like(x, size), *rest)
            assert torch.isfinite(value).all(), (size, dtype)
            assert torch.isfinite(grad).all(), (size, dtype)


@pytest.mark.parametrize("case", [each for each in some("numbers") if "poisson" not in each.id])
def test_far_outliers_do_not_overflow(case: Case) -> None:
    if case.name == "mse" or case.name.startswith("robust-2"):
        pytest.skip("a square of 1e30 is what was asked for")
    x, y, *_ = case.make(torch.float32)
    if case.name == "log-ratio" or case.name == "robust-1.5":
        pytest.skip("its square, or power, is what was asked for")
    value, grad = gradient(case, torch.full_like(x, 1e20), y.abs())
    assert torch.isfinite(value).all()
    assert torch.isfinite(grad).all()


@pytest.mark.parametrize("case", some(ignores=True, target="binary") + some("classes", "masks", "regions", "numbers"))
def test_what_is_ignored_is_as_good_as_absent(case: Case) -> None:
    """Rows that are ignored change neither the mean nor the gradient of the others, whatever stands in them."""
    x, *rest = (torch.cat([each, each]) for each in case.make(D))
    half = len(x) // 2
    alone = [each[:half] for each in (x, *rest)]
    value, grad = gradient(case, *alone)
    x[half:] = float("nan") if case.target == "numbers" else 5.0
    if case.target == "numbers":
        rest[0][half:] = float("nan")
        where = torch.arange(len(x)).view(-1, *[1] * (x.dim() - 1)) < half
        settings: dict[str, object] = {"where": where}
    else:
        rest[0][half:] = 7
        settings = {"ignore_index": 7}
    seen, slope = gradient(case, x, *rest, **settings)
    torch.testing.assert_close(seen, value)
    torch.testing.assert_close(slope[:half], grad)
    assert (slope[half:] == 0).all()


@pytest.mark.parametrize("case", some(ignores=True, target="binary") + some("classes", "masks", "regions", "numbers"))
def test_where_nothing_counts_it_is_zero_with_a_graph(case: Case) -> None:
    x, y, *rest = case.make(D)
    if case.target == "numbers":
        settings: dict[str, object] = {"where": torch.zeros_like(x, dtype=torch.bool)}
    else:
        settings, y = {"ignore_index": 7}, torch.full_like(y, 7)
    value, grad = gradient(case, x, y, *rest, **settings)
    assert value.item() == 0
    assert (grad == 0).all()


@pytest.mark.parametrize("case", some("binary", "classes", "masks", "regions", "numbers"))
def test_an_empty_batch_is_zero_with_a_graph(case: Case) -> None:
    value, grad = gradient(case, *(each[:0] for each in case.make(D)))
    assert value.item() == 0
    assert grad.shape[0] == 0


@pytest.mark.parametrize("case", some(batched=True))
def test_two_batches_are_the_mean_of_both(case: Case) -> None:
    arguments = case.make(D)
    if case.name == "kto":
        pytest.skip("which answers are good lies in the call")
    half = len(arguments[0]) // 2
    first, second = (case.call(*(each[part] for each in arguments)) for part in (slice(half), slice(half, 2 * half)))
    torch.testing.assert_close(case.call(*(each[: 2 * half] for each in arguments)), (first + second) / 2)


@pytest.mark.parametrize("case", some())
def test_order_and_memory_layout_do_not_matter(case: Case) -> None:
    arguments = case.make(D)
    if case.name == "kto":
        pytest.skip("which answers are good lies in the call")
    order = torch.arange(len(arguments[0]) - 1, -1, -1)
    torch.testing.assert_close(case.call(*arguments), case.call(*(each[order] for each in arguments)))
    strided = [torch.stack([each, each], -1)[..., 0] for each in arguments]
    assert not strided[0].is_contiguous()
    torch.testing.assert_close(case.call(*arguments), case.call(*strided))


@pytest.mark.parametrize("case", some())
def test_functional_transforms_see_the_same(case: Case) -> None:
    x, *rest = case.make(D)
    _, expected = gradient(case, x, *rest)
    torch.testing.assert_close(torch.func.grad(lambda v: case.call(v, *rest))(x), expected)
    both = torch.stack([x, -x if case.name not in ("orpo",) else x * 0.5])
    mapped = torch.func.vmap(lambda v: case.call(v, *rest))(both)
    torch.testing.assert_close(mapped, torch.stack([case.call(each, *rest) for each in both]))


@pytest.mark.parametrize("case", some())
def test_it_compiles_without_a_break(case: Case) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(lambda *v: case.call(*v), fullgraph=True, backend="aot_eager")
    x, *rest = case.make(torch.float32)
    value, grad = gradient(case, x, *rest)
    x = x.detach().clone().requires_grad_()
    seen = compiled(x, *rest)
    (slope,) = torch.autograd.grad(seen, x)
    torch.testing.assert_close(seen.detach(), value)
    torch.testing.assert_close(slope, grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("case", some())
def test_nothing_waits_for_the_device(case: Case) -> None:
    """On the meta device there are no values: whoever asked for one would fail."""
    arguments = [each.to("meta") for each in case.make(torch.float32)]
    settings = {}
    if case.name in ("cross-entropy-weight", "focal-alpha", "kto"):
        pytest.skip("a tensor of the CPU lies in the call")
    arguments[0].requires_grad_()
    case.call(*arguments, **settings).backward()
    assert arguments[0].grad is not None


@pytest.mark.parametrize("case", some("binary", "numbers"))
def test_shapes_that_would_broadcast_are_refused(case: Case) -> None:
    x, y = torch.randn(4, 1), torch.rand(4)
    with pytest.raises(L.LossArgumentError, match=r"\(4, 1\).*\(4,\).*squeeze"):
        case.call(x, y)


@pytest.mark.parametrize("case", some("binary", "classes", "masks", "regions", "numbers"))
def test_what_is_no_prediction_is_refused(case: Case) -> None:
    x, *rest = case.make(torch.float32)
    with pytest.raises(
        L.LossArgumentError, match=r"`input` should be of a floating-point dtype\. Found dtype torch.int64"
    ):
        case.call(x.long(), *rest)
    with pytest.raises(L.LossArgumentError, match="`target` should be a torch"):
        case.call(x, rest[0].tolist())


@pytest.mark.parametrize("case", some("classes"))
def test_one_class_is_refused(case: Case) -> None:
    with pytest.raises(L.LossArgumentError, match="at least two classes"):
        case.call(torch.randn(3, 1), torch.zeros(3, dtype=torch.long))


@pytest.mark.parametrize("case", [each for each in some("classes") if "hinge" not in each.id])
def test_a_class_out_of_the_race_costs_nothing(case: Case) -> None:
    """A class masked with -inf that is nobody's target: finite value, finite gradient."""
    x, y = case.make(D)
    x, y = x.clone(), y.clamp_max(1)
    x[:, 2] = float("-inf")
    value, grad = gradient(case, x, y)
    assert math.isfinite(value.item())
    assert torch.isfinite(grad).all()


@pytest.mark.parametrize("case", some("masks", "regions"))
def test_sums_of_a_large_half_precision_image_do_not_overflow(case: Case) -> None:
    x, y = case.make(torch.float16)
    if case.target == "masks" and case.name == "lovasz-hinge":
        x, y = torch.randn(1, 300, 300).half(), (torch.rand(1, 300, 300) > 0.2).half()
    elif case.target == "masks":
        x, y = torch.randn(1, 1, 300, 300).half(), (torch.rand(1, 1, 300, 300) > 0.2).half()
    else:
        x, y = torch.randn(1, 2, 300, 300).half(), (torch.rand(1, 300, 300) > 0.2).long()
    value, grad = gradient(case, x, y)
    assert 0 < value.item() < 10
    assert torch.isfinite(grad).all()


@pytest.mark.parametrize("case", some())
def test_autocast_changes_nothing(case: Case) -> None:
    x, *rest = case.make(torch.float32)
    expected = case.call(x, *rest)
    with torch.autocast("cpu", torch.bfloat16):
        seen = case.call(x, *rest)
    torch.testing.assert_close(seen, expected)
