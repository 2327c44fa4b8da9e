"""Train the reader: ``python -m reader.train``."""

from __future__ import annotations

import argparse

import torch

from reader.data import make_loaders
from reader.engine import Trainer
from reader.models import build_reader


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a reader of handwritten digits.")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--width", type=int, default=12, help="channels of the first layers")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    train, valid = make_loaders(args.batch_size, args.seed)
    trainer = Trainer(build_reader(args.width, args.device), args.learning_rate, args.device)

    print("       training losses                          validation")
    print("epoch    loss   digit  traits    mask     ink    digit  traits    mask")
    for epoch in range(1, args.epochs + 1):
        losses = trainer.train_epoch(train)
        scores = trainer.validate(valid)
        print(
            f"{epoch:5d}"
            + "".join(f"{losses[name]:8.3f}" for name in ("loss", "digit", "traits", "mask", "ink"))
            + " "
            + "".join(f"{scores[name]:8.1%}" for name in ("digit", "traits", "mask")),
            flush=True,
        )


if __name__ == "__main__":
    main()
