"""Training and validation."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from reader.losses import dice_loss, relative_error, trait_loss


class Trainer:
    """Trains a reader on all its tasks at once."""

    def __init__(self, model: nn.Module, learning_rate: float = 1e-3, device: str = "cpu") -> None:
        self.model = model
        self.device = device
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)

    def compute_losses(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, float]]:
        """The loss to minimize, and what each task adds to it."""
        sheet, digit, traits, mask, ink = (part.to(self.device) for part in batch)
        output = self.model(sheet)
        digit_loss = self.criterion(output["digit"], digit)
        traits_loss = trait_loss(output["traits"], traits)
        mask_loss = dice_loss(output["mask"], mask)
        ink_loss = relative_error(output["ink"], ink)
        loss = digit_loss + traits_loss + mask_loss + ink_loss
        return loss, {
            "loss": loss.item(),
            "digit": digit_loss.item(),
            "traits": traits_loss.item(),
            "mask": mask_loss.item(),
            "ink": ink_loss.item(),
        }

    def train_epoch(self, batches: Iterable[tuple[Tensor, ...]]) -> dict[str, float]:
        """One pass over the training data; the mean of every loss."""
        self.model.train()
        totals: dict[str, float] = {}
        count = 0
        for batch in batches:
            self.optimizer.zero_grad()
            loss, parts = self.compute_losses(batch)
            loss.backward()
            self.optimizer.step()
            count += 1
            for name, value in parts.items():
                totals[name] = totals.get(name, 0.0) + value
        return {name: total / count for name, total in totals.items()}

    @torch.no_grad()
    def validate(self, batches: Iterable[tuple[Tensor, ...]]) -> dict[str, float]:
        """Share of digits, of traits and of inked pixels that are read correctly."""
        self.model.eval()
        digits_right = traits_right = digits_seen = traits_seen = 0
        shared = united = 0.0
        for batch in batches:
            sheet, digit, traits, mask, _ = (part.to(self.device) for part in batch)
            output = self.model(sheet)
            digits_right += (output["digit"].argmax(dim=1) == digit).sum().item()
            traits_right += ((output["traits"] > 0.5) == (traits > 0.5)).sum().item()
            digits_seen += digit.numel()
            traits_seen += traits.numel()
            found, true = output["mask"] > 0.5, mask > 0.5
            shared += (found & true).sum().item()
            united += (found | true).sum().item()
        return {
            "digit": digits_right / digits_seen,
            "traits": traits_right / traits_seen,
            "mask": shared / max(united, 1.0),
        }
