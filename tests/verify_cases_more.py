"""More mends for ``test_verify.py``, in the shapes of larger projects: packages, base classes, criteria built elsewhere."""

# ruff: noqa: E501, RUF005

from __future__ import annotations

from verify_cases import HEAD, Case

UNET = (
    HEAD
    + """
class ConvBlock(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))

    def forward(self, x):
        return self.layers(x)


class TinyUNet(nn.Module):
    def __init__(self, in_channels=3, out_channels=1):
        super().__init__()
        self.enc = ConvBlock(in_channels, 8)
        self.dec = ConvBlock(8, 8)
        self.final = nn.Conv2d(8, out_channels, 1)

    def forward(self, x):
        x = self.dec(self.enc(x))
        return torch.sigmoid(self.final(x))
"""
)
UNET_TRAIN = (
    HEAD
    + """import argparse

from seg.models.unet import TinyUNet
from tqdm_missing import tqdm


def train_one_epoch(model, loader, criterion, optimizer, device, epoch):
    model.train()
    running = 0.0
    for images, masks in tqdm(loader):
        images, masks = images.to(device), masks.to(device)
        optimizer.zero_grad()
        outputs = model(images)
        loss = criterion(outputs, masks)
        loss.backward()
        optimizer.step()
        running += loss.item() * images.size(0)
    return running / len(loader.dataset)


@torch.no_grad()
def evaluate(model, loader, criterion, device):
    model.eval()
    total, inter = 0.0, 0.0
    for images, masks in loader:
        probs = model(images.to(device))
        total += criterion(probs, masks.to(device)).item()
        inter += ((probs > 0.5).float() * masks).sum().item()
    return total, inter


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    args = parser.parse_args()
    model = TinyUNet().cuda()
    criterion = nn.BCELoss()
    optimizer = torch.optim.Adam(model.parameters())
    for epoch in range(10):
        train_one_epoch(model, load(args.data), criterion, optimizer, "cuda", epoch)


if __name__ == "__main__":
    main()
"""
)
UNET_FIX = [
    ("seg/models/unet.py", "return torch.sigmoid(self.final(x))", "return self.final(x)"),
    ("seg/train.py", "criterion = nn.BCELoss()", "criterion = nn.BCEWithLogitsLoss()"),
]
UNET_HOPS = [
    ("seg/models/unet.py", "return torch.sig"),
    ("seg/train.py", "criterion = nn.BCELoss()"),
    ("seg/train.py", "model = TinyUNet"),
]
UNET_FILES = {
    "seg/__init__.py": "",
    "seg/models/__init__.py": "",
    "seg/models/unet.py": UNET,
    "seg/train.py": UNET_TRAIN,
}
NO_TQDM = {
    **UNET_FILES,
    "seg/train.py": UNET_TRAIN.replace("from tqdm_missing import tqdm\n", "").replace("tqdm(loader)", "loader"),
}

BASE = (
    HEAD
    + """from abc import ABC, abstractmethod


class BaseLoss(nn.Module, ABC):
    def __init__(self, reduction: str = "mean", ignore_index: int = -100):
        super().__init__()
        self.reduction = reduction
        self.ignore_index = ignore_index

    @abstractmethod
    def elementwise(self, logits, target):
        ...

    def forward(self, logits, target, mask=None):
        loss = self.elementwise(logits, target)
        if mask is not None:
            return (loss * mask).sum() / mask.sum()
        if self.reduction == "none":
            return loss
        return loss.mean()


class SoftBCE(BaseLoss):
    def elementwise(self, logits, target):
        p = logits.sigmoid()
        return -(target * p.log() + (1 - target) * (1 - p).log())
"""
)
SRC = (
    HEAD
    + '''from .constants import EPS


def _entropy(p):
    return -(p * torch.log(p)).sum(-1)


class EntropyRegularizer:
    """Penalizes certain predictions."""

    def __init__(self, weight: float):
        self.weight = weight

    def __call__(self, logits):
        def inner(z):
            p = z.softmax(-1)
            return _entropy(p)

        return self.weight * inner(logits).mean()
'''
)
GAN = (
    HEAD
    + """def discriminator_step(netD, netG, real, opt_d, z_dim=16):
    opt_d.zero_grad()
    z = torch.randn(real.size(0), z_dim)
    fake = netG(z).detach()
    loss = -(torch.log(netD(real)).mean() + torch.log(1 - netD(fake)).mean())
    loss.backward()
    opt_d.step()
    return loss.item()
"""
)
NESTED = (
    HEAD
    + """def make_loss(temperature: float = 0.1):
    def loss_fn(anchor, positive):
        sim = anchor @ positive.t() / temperature
        e = sim.exp()
        return -(e.diagonal() / e.sum(1)).log().mean()

    return loss_fn


class Contrast(nn.Module):
    def __init__(self, dim, temperature=0.1):
        super().__init__()
        self.proj = nn.Linear(dim, dim)
        self.temperature = temperature

    def forward(self, anchor, positive):
        a, p = self.proj(anchor), self.proj(positive)
        sim = F.cosine_similarity(a.unsqueeze(1), p.unsqueeze(0), dim=-1) / self.temperature
        labels = torch.arange(sim.size(0), device=sim.device)
        return F.nll_loss(torch.log(F.softmax(sim, dim=1)), labels)
"""
)
FLAGS = (
    HEAD
    + """class Tversky(nn.Module):
    def __init__(self, alpha=0.3, beta=0.7, from_logits=False):
        super().__init__()
        self.alpha, self.beta, self.from_logits = alpha, beta, from_logits

    def forward(self, y_pred: torch.Tensor, y_true: torch.Tensor, per_image: bool = False) -> torch.Tensor:
        if self.from_logits:
            y_pred = y_pred.sigmoid()
        dims = tuple(range(1, y_true.dim())) if per_image else None
        if dims is not None:
            tp = (y_pred * y_true).sum(dims)
            fp = (y_pred * (1 - y_true)).sum(dims)
            fn = ((1 - y_pred) * y_true).sum(dims)
            return (1 - tp / (tp + self.alpha * fp + self.beta * fn)).mean()
        return 1 - (y_pred * y_true).sum() / (y_pred.sum() + y_true.sum() + 1e-6)
"""
)
SEQ = (
    HEAD
    + """class Tagger(nn.Module):
    def __init__(self, vocab_size, num_tags, emb_dim=16, hidden=32):
        super().__init__()
        self.emb = nn.Embedding(vocab_size, emb_dim)
        self.rnn = nn.LSTM(emb_dim, hidden, batch_first=True)
        self.out = nn.Linear(hidden, num_tags)

    def forward(self, tokens, tags=None):
        h, _ = self.rnn(self.emb(tokens))
        scores = F.softmax(self.out(h), dim=-1)
        if tags is None:
            return scores.argmax(-1)
        return F.nll_loss(scores.log().view(-1, scores.size(-1)), tags.view(-1))
"""
)
MASKLM = (
    HEAD
    + """def mlm_loss(logits, labels, attention_mask):
    per_token = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    keep = attention_mask.bool()
    return per_token[keep].sum() / keep.sum()
"""
)
RL = (
    HEAD
    + """class Agent:
    def __init__(self, policy: nn.Module, value: nn.Module, cfg):
        self.policy = policy
        self.value = value
        self.entropy_coef = cfg.entropy_coef

    def update(self, obs, actions, returns):
        probs = F.softmax(self.policy(obs), dim=-1)
        logp = torch.log(probs.gather(1, actions.unsqueeze(1)).squeeze(1))
        advantage = returns - self.value(obs).squeeze(-1)
        entropy = -(probs * torch.log(probs)).sum(-1).mean()
        return -(logp * advantage.detach()).mean() + advantage.pow(2).mean() - self.entropy_coef * entropy
"""
)
UNCERTAIN = (
    HEAD
    + """class MultiTask(nn.Module):
    def __init__(self, num_tasks: int):
        super().__init__()
        self.sigma = nn.Parameter(torch.ones(num_tasks))

    def forward(self, losses):
        total = 0
        for i, loss in enumerate(losses):
            total = total + loss / (2 * self.sigma[i] ** 2) + torch.log(self.sigma[i])
        return total


def gaussian_nll(mean, var, target):
    return (0.5 * torch.log(var) + (target - mean) ** 2 / (2 * var)).mean()
"""
)
OUTPUTS = (
    HEAD
    + """from dataclasses import dataclass
from typing import Optional


@dataclass
class Output:
    logits: torch.Tensor
    probs: torch.Tensor
    loss: Optional[torch.Tensor] = None


class Classifier(nn.Module):
    def __init__(self, hidden_size: int, num_labels: int):
        super().__init__()
        self.dense = nn.Linear(hidden_size, num_labels)

    def forward(self, hidden_states, labels: Optional[torch.Tensor] = None) -> Output:
        logits = self.dense(hidden_states)
        probs = logits.softmax(dim=-1)
        loss = None
        if labels is not None:
            loss = F.nll_loss(torch.log(probs), labels)
        return Output(logits, probs, loss)
"""
)
CONSTANT = (
    HEAD
    + """EPS = 1e-8


class SmoothedLog(nn.Module):
    def forward(self, probs, targets):
        probs = torch.clamp(probs, EPS, 1 - EPS)
        return -(targets * torch.log(probs) + (1 - targets) * torch.log(1 - probs)).mean()
"""
)
LOADERS = (
    HEAD
    + """class Runner:
    def __init__(self, args, model, train_loader):
        self.args = args
        self.model = model
        self.train_loader = train_loader
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
        self.history = []

    def run_epoch(self):
        for step, batch in enumerate(self.train_loader):
            logits = self.model(batch["pixel_values"].to(self.args.device))
            loss = F.cross_entropy(logits, batch["labels"])
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.history.append(loss)
        return sum(self.history) / len(self.history)
"""
)
STATIC = (
    HEAD
    + """class Metrics:
    @staticmethod
    def relative_error(pred, truth):
        return ((pred - truth).abs() / truth).mean()

    @classmethod
    def cosine(cls, u, v):
        return 1 - (u * v).sum(-1) / (u.norm(dim=-1) * v.norm(dim=-1))
"""
)
DISTANCE = (
    HEAD
    + """class TripletHard(nn.Module):
    def __init__(self, margin=0.3):
        super().__init__()
        self.margin = margin

    def forward(self, embeddings, labels):
        d = (embeddings.unsqueeze(1) - embeddings.unsqueeze(0)).pow(2).sum(-1).sqrt()
        same = labels.unsqueeze(0) == labels.unsqueeze(1)
        hardest_positive = (d * same).max(1).values
        hardest_negative = (d + 1e5 * same).min(1).values
        return F.relu(hardest_positive - hardest_negative + self.margin).mean()
"""
)
ACCUM = (
    HEAD
    + """def fit(model, loader, optimizer, accumulation_steps=2):
    for i, (x, y) in enumerate(loader):
        loss = F.mse_loss(model(x), y)
        loss.backward()
        if (i + 1) % accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()
"""
)

MORE: dict[str, Case] = {
    "criterion_built_in_main": Case(
        "LP101", NO_TQDM, [*UNET_FIX, ("seg/train.py", "probs = model(images.to(device))", "probs = model(images.to(device))")][:2]
        + [("seg/train.py", "total += criterion(probs, masks.to(device)).item()", "total += criterion(probs, masks.to(device)).item()\n        probs = probs.sigmoid()")],
        ("seg/train.py", "loss = criterion(outputs"), UNET_HOPS, says="`train_one_epoch`",
    ),
    "criterion_built_in_main_inference_forgotten": Case(
        "LP101", NO_TQDM, UNET_FIX, ("seg/train.py", "loss = criterion(outputs"), UNET_HOPS, verdict="failed",
        says="`evaluate` is not changed and uses what is",
    ),
    "missing_progress_bar": Case(
        "LP101", UNET_FILES, UNET_FIX, ("seg/train.py", "loss = criterion(outputs"), UNET_HOPS,
        verdict="not run", says="needs the package tqdm_missing",
    ),
    "abstract_base_mask": Case(
        "LP304", {"losses.py": BASE}, [("losses.py", "mask.sum()", "mask.sum().clamp(min=1)")], ("losses.py", "return (loss * mask)"),
        says="same.*empty mask",
    ),
    "overridden_element": Case(
        "LP106", {"losses.py": BASE},
        [("losses.py", "p = logits.sigmoid()\n        return -(target * p.log() + (1 - target) * (1 - p).log())",
          'return F.binary_cross_entropy_with_logits(logits, target, reduction="none")')],
        ("losses.py", "return -(target"), says="`SoftBCE.elementwise`.*same",
    ),
    "relative_imports_in_src": Case(
        "LP202", {"src/pack/__init__.py": "", "src/pack/constants.py": "EPS = 1e-12\n", "src/pack/reg.py": SRC},
        [("src/pack/reg.py", "(p * torch.log(p))", "(p * torch.log(p.clamp(min=EPS)))")], ("src/pack/reg.py", "return -(p"),
        says="`_entropy`.*same",
    ),
    "gan_step": Case(
        "LP202", {"gan.py": GAN}, [("gan.py", "torch.log(netD(real))", "torch.log(netD(real).clamp(min=1e-12))"),
        ("gan.py", "torch.log(1 - netD(fake))", "torch.log((1 - netD(fake)).clamp(min=1e-12))")], ("gan.py", "loss = -"),
    ),
    "closure": Case(
        "LP204", {"t.py": NESTED}, [("t.py", "e = sim.exp()\n        return -(e.diagonal() / e.sum(1)).log().mean()",
        "return -sim.log_softmax(1).diagonal().mean()")], ("t.py", "e = sim"), verdict="not run", says="`make_loss`",
    ),
    "module_with_weights_of_its_own": Case(
        "LP106", {"t.py": NESTED}, [("t.py", "F.nll_loss(torch.log(F.softmax(sim, dim=1)), labels)", "F.cross_entropy(sim, labels)")],
        ("t.py", "return F.nll"), says="`Contrast.forward`.*same",
    ),
    "behind_a_switch": Case(
        "LP201", {"t.py": FLAGS}, [("t.py", "(tp + self.alpha * fp + self.beta * fn)", "(tp + self.alpha * fp + self.beta * fn).clamp(min=1e-6)")],
        ("t.py", "return (1 - tp"), says="same",
    ),
    "behind_a_switch_and_wrong": Case(
        "LP201", {"t.py": FLAGS}, [("t.py", "(tp + self.alpha * fp + self.beta * fn)", "(tp + self.alpha * fp + self.beta * fn + 1)")],
        ("t.py", "return (1 - tp"), verdict="failed", says="became",
    ),
    "tagger_with_targets": Case(
        "LP106", {"t.py": SEQ},
        [("t.py", "scores = F.softmax(self.out(h), dim=-1)", "scores = F.log_softmax(self.out(h), dim=-1)"), ("t.py", "scores.log().view", "scores.view")],
        ("t.py", "return F.nll"), says="`Tagger.forward`.*same",
    ),
    "tagger_wrong_axis": Case(
        "LP106", {"t.py": SEQ},
        [("t.py", "scores = F.softmax(self.out(h), dim=-1)", "scores = F.log_softmax(self.out(h), dim=1)"), ("t.py", "scores.log().view", "scores.view")],
        ("t.py", "return F.nll"), verdict="failed",
    ),
    "masked_tokens": Case(
        "LP304", {"t.py": MASKLM}, [("t.py", "keep.sum()", "keep.sum().clamp(min=1)")], ("t.py", "return per"), says="empty mask: nan, now 0",
    ),
    "policy_gradient": Case(
        "LP106", {"t.py": RL},
        [("t.py", "logp = torch.log(probs.gather(1, actions.unsqueeze(1)).squeeze(1))",
          "logp = F.log_softmax(self.policy(obs), dim=-1).gather(1, actions.unsqueeze(1)).squeeze(1)")],
        ("t.py", "logp = "), says="same.*extreme: still .* by line",
    ),
    "variance_floor": Case(
        "LP201", {"t.py": UNCERTAIN}, [("t.py", "torch.log(var) + (target - mean) ** 2 / (2 * var)",
        "torch.log(var.clamp(min=1e-6)) + (target - mean) ** 2 / (2 * var.clamp(min=1e-6))")], ("t.py", "return (0.5"), says="`gaussian_nll`.*same.*nan, now",
    ),
    "learnt_sigma": Case(
        "LP202", {"t.py": UNCERTAIN}, [("t.py", "torch.log(self.sigma[i])", "torch.log(self.sigma[i].clamp(min=1e-6))")], ("t.py", "total = total + loss /"),
        says="`MultiTask.forward`.*same",
    ),
    "output_class": Case(
        "LP106", {"t.py": OUTPUTS}, [("t.py", "F.nll_loss(torch.log(probs), labels)", "F.cross_entropy(logits, labels)")], ("t.py", "loss = F.nll"),
        says="`Classifier.forward`.*same",
    ),
    "output_class_wrong": Case(
        "LP106", {"t.py": OUTPUTS}, [("t.py", "F.nll_loss(torch.log(probs), labels)", "F.cross_entropy(probs, labels)")], ("t.py", "loss = F.nll"),
        verdict="failed", says="became",
    ),
    "constant_of_the_module": Case(
        "LP205", {"t.py": CONSTANT}, [("t.py", "EPS = 1e-8", "EPS = 1e-6")], ("t.py", "probs = torch.clamp"), says="`SmoothedLog.forward`.*same.*extreme",
    ),
    "history_of_losses": Case(
        "LP305", {"t.py": LOADERS}, [("t.py", "self.history.append(loss)", "self.history.append(loss.detach())")], ("t.py", "self.history.append"),
        says="`Runner.run_epoch`.*same",
    ),
    "history_of_twice_the_losses": Case(
        "LP305", {"t.py": LOADERS}, [("t.py", "self.history.append(loss)", "self.history.append(loss.item() * 2)")], ("t.py", "self.history.append"),
        verdict="failed",
    ),
    "static_method": Case(
        "LP201", {"t.py": STATIC}, [("t.py", "/ truth)", "/ truth.clamp(min=1e-8))")], ("t.py", "return ((pred"), says="`Metrics.relative_error`.*same",
    ),
    "class_method": Case(
        "LP201", {"t.py": STATIC}, [("t.py", "(u.norm(dim=-1) * v.norm(dim=-1))", "(u.norm(dim=-1) * v.norm(dim=-1)).clamp(min=1e-8)")],
        ("t.py", "return 1 - (u"), says="`Metrics.cosine`.*zeros: nan, now",
    ),
    "hard_triplets": Case(
        "LP203", {"t.py": DISTANCE}, [("t.py", ".sum(-1).sqrt()", ".sum(-1).clamp(min=1e-12).sqrt()")], ("t.py", "d = (emb"), says="`TripletHard.forward`",
    ),
    "accumulation": Case(
        "LP702", {"t.py": ACCUM}, [("t.py", "loss.backward()", "(loss / accumulation_steps).backward()")], ("t.py", "loss.backward"), safe=False,
        says="`fit`: .* became",
    ),
}  # fmt: skip
