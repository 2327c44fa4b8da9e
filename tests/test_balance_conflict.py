"""A fundamental conflict is told from one of balance, on families where the answer is known."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from lossproof import balance as B  # noqa: E402


class Point(nn.Module):
    def __init__(self, start: torch.Tensor) -> None:
        super().__init__()
        self.x = nn.Parameter(start)


def family(kind: str, seed: int) -> tuple[Point, object]:
    """Two bowls in four dimensions, of different axes: with one optimum, with one optimum and scales 10,000 apart, with
    two."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    turn, other = torch.linalg.qr(draw(4, 4))[0], torch.linalg.qr(draw(4, 4))[0]
    bowls = [
        turn @ torch.diag(torch.tensor([1.0, 2.0, 4.0, 8.0])) @ turn.T,
        other @ torch.diag(torch.ones(4) * 2) @ other.T,
    ]
    centres = [torch.zeros(4), torch.zeros(4)]
    scales = [1.0, 1.0]
    if kind == "crossing":
        away = draw(4)
        centres = [away / away.norm() * 1.5, -away / away.norm() * 1.5]
    if kind == "scale":
        scales = [1e4, 1.0]
        # A common optimum that one objective alone leaves open: the first sees two directions, the second the others.
        axes = turn
        bowls = [
            axes @ torch.diag(torch.tensor([2.0, 2.0, 0.02, 0.0])) @ axes.T,
            axes @ torch.diag(torch.tensor([0.0, 0.02, 2.0, 2.0])) @ axes.T,
        ]
    start = draw(4) * 3

    def objectives(model: Point) -> dict[str, torch.Tensor]:
        return {
            name: scale * ((model.x - centre) @ bowl @ (model.x - centre))
            for name, scale, bowl, centre in zip("ab", scales, bowls, centres, strict=True)
        }

    return Point(start), objectives


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("kind", "expected"), [("shared", {"none"}), ("crossing", {"fundamental"}), ("scale", {"none", "balance"})]
)
def test_the_verdict_is_right_where_the_answer_is_known(kind: str, expected: set[str], seed: int) -> None:
    model, objectives = family(kind, seed)
    before = model.x.detach().clone()
    found = B.conflict(model, objectives, steps=150, rate=0.1, seeds=2)
    assert found.verdict in expected, str(found)
    torch.testing.assert_close(model.x.detach(), before)
    if kind == "crossing":
        assert found.cosine.mean < -0.5
        assert "choose" in str(found)


def test_the_probe_asks_for_two_objectives_and_an_interval() -> None:
    model, objectives = family("shared", 0)
    with pytest.raises(B.TaskError, match="two losses"):
        B.conflict(model, lambda m: {"a": objectives(m)["a"]})
    with pytest.raises(B.TaskError, match="at least 2"):
        B.conflict(model, objectives, seeds=1)
