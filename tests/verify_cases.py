"""Fixes as people and rules would make them, right and wrong, for ``test_verify.py``: each a project before and after.

``edits`` are (file, old text, new text), each text once in its file; ``at`` is where the finding is, ``hops`` the way to it.
"""

# ruff: noqa: E501

from __future__ import annotations

from dataclasses import dataclass, field

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n\n\n"


@dataclass
class Case:
    rule: str
    files: dict[str, str]
    edits: list[tuple[str, str, str]]
    at: tuple[str, str]
    hops: list[tuple[str, str]] = field(default_factory=list)
    safe: bool = True
    verdict: str = "verified"
    says: str = ""
    """A regular expression that the proof's line holds."""


NET = (
    HEAD
    + """
class Net(nn.Module):
    def __init__(self, in_features: int, hidden: int = 16, num_classes: int = 3):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU())
        self.head = nn.Linear(hidden, num_classes)

    def forward(self, x):
        h = self.body(x)
        return torch.sigmoid(self.head(h))
"""
)
TRAIN = (
    HEAD
    + """from model import Net


def train_step(model, batch, optimizer, device):
    x, y = batch
    optimizer.zero_grad()
    loss = F.binary_cross_entropy(model(x.to(device)), y.to(device))
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def predict(model, x):
    model.eval()
    return model(x) > 0.5


def main(args):
    model = Net(in_features=12)
    optimizer = torch.optim.Adam(model.parameters())
    for batch in load(args.path):
        train_step(model, batch, optimizer, "cuda")
"""
)
SIGMOID = ("model.py", "return torch.sigmoid(self.head(h))", "return self.head(h)")
LOGITS = (
    "train.py",
    "F.binary_cross_entropy(model(x.to(device))",
    "F.binary_cross_entropy_with_logits(model(x.to(device))",
)
SERVED = ("train.py", "return model(x) > 0.5", "return torch.sigmoid(model(x)) > 0.5")
AT_LOSS = ("train.py", "loss = F.bin")
AT_SIGMOID = [("model.py", "return torch.sig"), ("train.py", "model = Net(")]

TRAINER = (
    HEAD
    + """from model import Net


class Trainer:
    def __init__(self, model, loader, lr=1e-3, device="cuda"):
        self.model = model.to(device)
        self.loader = loader
        self.device = device
        self.criterion = nn.BCELoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr)

    def train_epoch(self):
        self.model.train()
        total = 0.0
        for i, (x, y) in enumerate(self.loader):
            x, y = x.to(self.device), y.to(self.device)
            loss = self.criterion(self.model(x), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total / len(self.loader)

    @torch.no_grad()
    def predict(self, x):
        return self.model(x).cpu()
"""
)
LIGHTNING = (
    HEAD
    + """import pytorch_lightning as pl


class LitTagger(pl.LightningModule):
    def __init__(self, in_dim: int = 12, n_tags: int = 5, lr: float = 1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(in_dim, 16), nn.ReLU(), nn.Linear(16, n_tags))

    def forward(self, x):
        return torch.softmax(self.net(x), dim=1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.nll_loss(torch.log(self(x)), y)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
"""
)
CONFIG = (
    HEAD
    + """from dataclasses import dataclass


@dataclass
class LossConfig:
    gamma: float = 2.0
    alpha: float = 0.25
    eps: float = 1e-8


class FocalLoss(nn.Module):
    def __init__(self, config: LossConfig):
        super().__init__()
        self.config = config

    def forward(self, probs, targets):
        pt = torch.where(targets == 1, probs, 1 - probs)
        return (-self.config.alpha * (1 - pt) ** self.config.gamma * torch.log(pt)).mean()
"""
)
MASKED = (
    HEAD
    + """def masked_mean(values, mask):
    return (values * mask).sum() / mask.sum()
"""
)
PAIRWISE = (
    HEAD
    + """def pairwise_distance(a, b):
    return torch.sqrt(((a - b) ** 2).sum(dim=1)).mean()
"""
)
FOCAL = (
    HEAD
    + """class BinaryFocal(nn.Module):
    def __init__(self, gamma=2.0, reduction="mean"):
        super().__init__()
        self.gamma = gamma
        self.reduction = reduction

    def forward(self, logits, targets):
        p = torch.sigmoid(logits)
        ce = -(targets * torch.log(p) + (1 - targets) * torch.log(1 - p))
        pt = torch.where(targets == 1, p, 1 - p)
        loss = (1 - pt) ** self.gamma * ce
        return loss.mean() if self.reduction == "mean" else loss.sum()
"""
)
FOCAL_CE = ("t.py", "ce = -(targets * torch.log(p) + (1 - targets) * torch.log(1 - p))")
SEGMENT = (
    HEAD
    + """def pixel_entropy(logits):
    n, c, h, w = logits.shape
    p = F.softmax(logits, dim=1)
    return -(p * torch.log(p)).sum(dim=1).mean()
"""
)
KL = (
    HEAD
    + """def distillation_loss(student_logits, teacher_logits, T=2.0):
    p = F.softmax(student_logits / T, dim=1)
    q = F.softmax(teacher_logits / T, dim=1)
    return F.kl_div(torch.log(p), q, reduction="batchmean") * T * T
"""
)
METER = (
    HEAD
    + """def evaluate(model, loader, criterion):
    total = 0
    for x, y in loader:
        total += criterion(model(x), y)
    return total / len(loader)
"""
)
KWARGS = (
    HEAD
    + """def regression_loss(pred, target, **kwargs):
    eps = kwargs.get("eps", 0.0)
    return ((pred - target).abs() / target).mean() + eps
"""
)
SCRIPT = (
    HEAD
    + """model = nn.Linear(8, 1)
data = torch.load("train.pt")
for x, y in data:
    loss = F.binary_cross_entropy(torch.sigmoid(model(x)), y)
    loss.backward()
"""
)
DATASET = (
    HEAD
    + """def run(dataset_path, cfg):
    table = open(dataset_path).read()
    x = torch.tensor([float(v) for v in table.split()])
    loss = torch.log(x).mean()
    return loss
"""
)
MISSING = (
    HEAD
    + """import imaginary_ops as ops


def spectral_loss(pred, target):
    spec = ops.stft(pred)
    return torch.log(spec).mean()
"""
)
DICE = (
    HEAD
    + """def dice_loss(pred, target):
    pred = torch.sigmoid(pred)
    inter = (pred * target).sum(dim=(2, 3))
    return (1 - 2 * inter / (pred.sum(dim=(2, 3)) + target.sum(dim=(2, 3)))).mean()
"""
)
LSE = (
    HEAD
    + """def contrastive(z1, z2, temperature=0.5):
    sim = F.normalize(z1, dim=1) @ F.normalize(z2, dim=1).t() / temperature
    probs = torch.exp(sim) / torch.exp(sim).sum(dim=1, keepdim=True)
    return -torch.log(probs.diagonal()).mean()


def log_partition(scores):
    return torch.log(torch.exp(scores).sum(dim=1)).mean()
"""
)
WHERE = (
    HEAD
    + """def entropy_of_counts(probs):
    return -torch.where(probs > 0, probs * torch.log(probs), torch.zeros_like(probs)).sum()
"""
)
VAE = (
    HEAD
    + """class VAE(nn.Module):
    def __init__(self, input_dim, latent_dim):
        super().__init__()
        self.enc = nn.Linear(input_dim, latent_dim * 2)
        self.dec = nn.Linear(latent_dim, input_dim)

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, dim=1)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        return torch.sigmoid(self.dec(z)), mu, logvar


def vae_loss(model, x, target):
    recon, mu, logvar = model(x)
    bce = F.binary_cross_entropy(recon, target, reduction="sum")
    return bce - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
"""
)
DICTY = (
    HEAD
    + """class Segmenter(nn.Module):
    def __init__(self, in_channels=3, classes=2):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, classes, 3, padding=1)

    def forward(self, x):
        return {"mask": self.conv(x).sigmoid()}


class Task:
    def __init__(self, net: Segmenter):
        self.net = net

    def loss(self, batch):
        out = self.net(batch["image"])["mask"]
        target = batch["mask"].float()
        return {"loss": F.binary_cross_entropy(out, target), "mean": out.mean().item()}
"""
)

CASES: dict[str, Case] = {
    # ---- right
    "sigmoid_leaves_the_model": Case(
        "LP101", {"model.py": NET, "train.py": TRAIN}, [SIGMOID, LOGITS, SERVED], AT_LOSS, AT_SIGMOID,
        says=r"`train_step`, `predict`: \d+ inputs same.*extreme: certain|gradient",
    ),
    "trainer_class_with_criterion": Case(
        "LP101", {"model.py": NET, "train.py": TRAINER},
        [SIGMOID, ("train.py", "nn.BCELoss()", "nn.BCEWithLogitsLoss()"),
         ("train.py", "return self.model(x).cpu()", "return torch.sigmoid(self.model(x)).cpu()")],
        ("train.py", "loss = self.criterion"), [("model.py", "return torch.sig"), ("train.py", "nn.BCELoss")],
        says=r"`Trainer.train_epoch`, `Trainer.predict`|`Trainer.predict`, `Trainer.train_epoch`",
    ),
    "lightning_without_lightning": Case(
        "LP106", {"lit.py": LIGHTNING},
        [("lit.py", "return torch.softmax(self.net(x), dim=1)", "return torch.log_softmax(self.net(x), dim=1)"),
         ("lit.py", "F.nll_loss(torch.log(self(x)), y)", "F.nll_loss(self(x), y)")],
        ("lit.py", "loss = F.nll"), [("lit.py", "return torch.softmax")], says=r"`LitTagger.training_step`: \d+ inputs same",
    ),
    "dataclass_config": Case(
        "LP202", {"focal.py": CONFIG}, [("focal.py", "torch.log(pt)", "torch.log(pt.clamp(min=self.config.eps))")],
        ("focal.py", "return (-self"), says=r"extreme: .* now ",
    ),
    "masked_mean": Case(
        "LP304", {"t.py": MASKED}, [("t.py", "mask.sum()", "mask.sum().clamp(min=1)")], ("t.py", "return"),
        says=r"same.*empty mask: nan, now 0",
    ),
    "sqrt_with_eps_inside": Case(
        "LP203", {"t.py": PAIRWISE}, [("t.py", ".sum(dim=1)).mean()", ".sum(dim=1).clamp(min=1e-12)).mean()")],
        ("t.py", "return"), says="gradient that is not finite, now",
    ),
    "focal_with_logits": Case(
        "LP106", {"t.py": FOCAL},
        [("t.py", FOCAL_CE[1], 'ce = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")')], FOCAL_CE,
        says="extreme: .*nan, now",
    ),
    "segmentation_entropy": Case(
        "LP106", {"t.py": SEGMENT}, [("t.py", "torch.log(p)", "F.log_softmax(logits, dim=1)")], ("t.py", "return"),
        says="3x4x5x7|inputs same",
    ),
    "kl_div_of_log_softmax": Case(
        "LP106", {"t.py": KL},
        [("t.py", "torch.log(p), q", "p, q"), ("t.py", "p = F.softmax(student", "p = F.log_softmax(student")],
        ("t.py", "return"),
    ),
    "loss_kept": Case(
        "LP305", {"t.py": METER}, [("t.py", "criterion(model(x), y)", "criterion(model(x), y).detach()")],
        ("t.py", "total +="), says="same",
    ),
    "kwargs_and_signless_denominator": Case(
        "LP201", {"t.py": KWARGS}, [("t.py", "/ target)", "/ target.abs().clamp(min=1e-8))")], ("t.py", "return"),
        says=r"zero targets: (inf|nan), now",
    ),
    "dice_per_sample_guard": Case(
        "LP201", {"t.py": DICE},
        [("t.py", "(pred.sum(dim=(2, 3)) + target.sum(dim=(2, 3)))", "(pred.sum(dim=(2, 3)) + target.sum(dim=(2, 3))).clamp(min=1e-6)")],
        ("t.py", "return"), says="same",
    ),
    "logsumexp": Case(
        "LP204", {"t.py": LSE}, [("t.py", "torch.log(torch.exp(scores).sum(dim=1)).mean()", "torch.logsumexp(scores, dim=1).mean()")],
        ("t.py", "return torch.log(torch.exp"), says="extreme: logits of 100: inf, now 100",
    ),
    "contrastive_log_softmax": Case(
        "LP204", {"t.py": LSE},
        [("t.py", "probs = torch.exp(sim) / torch.exp(sim).sum(dim=1, keepdim=True)", "logp = F.log_softmax(sim, dim=1)"),
         ("t.py", "-torch.log(probs.diagonal())", "-logp.diagonal()")],
        ("t.py", "probs = torch.exp"), says="same",
    ),
    "double_where": Case(
        "LP206", {"t.py": WHERE},
        [("t.py", "torch.log(probs)", "torch.log(torch.where(probs > 0, probs, torch.ones_like(probs)))")],
        ("t.py", "return"), says="gradient that is not finite, now",
    ),
    "vae_reconstruction": Case(
        "LP101", {"vae.py": VAE},
        [("vae.py", "return torch.sigmoid(self.dec(z)), mu", "return self.dec(z), mu"),
         ("vae.py", "F.binary_cross_entropy(recon", "F.binary_cross_entropy_with_logits(recon")],
        ("vae.py", "bce = F.bin"), [("vae.py", "return torch.sig")], says="`vae_loss`: .*same",
    ),
    "dictionaries": Case(
        "LP101", {"seg.py": DICTY},
        [("seg.py", '"mask": self.conv(x).sigmoid()', '"mask": self.conv(x)'),
         ("seg.py", "F.binary_cross_entropy(out", "F.binary_cross_entropy_with_logits(out"),
         ("seg.py", "out.mean()", "out.sigmoid().mean()")],
        ("seg.py", 'return {"loss"'), [("seg.py", 'return {"mask"')], says="`Task.loss`: .*same",
    ),
    "double_softmax_on_purpose": Case(
        "LP102", {"t.py": HEAD + "def step(logits, labels):\n    return F.cross_entropy(logits.softmax(1), labels)\n"},
        [("t.py", "logits.softmax(1)", "logits")], ("t.py", "return"), safe=False, says=r"finite; .* became",
    ),
    # ---- wrong
    "the_peers_mend": Case(
        "LP102", {"t.py": HEAD + "def step(logits, labels):\n    return F.cross_entropy(logits.softmax(1), labels)\n"},
        [("t.py", "logits.softmax(1)", "1")], ("t.py", "return"), safe=False, verdict="failed", says="TypeError|AttributeError",
    ),
    "inference_not_served": Case(
        "LP101", {"model.py": NET, "train.py": TRAINER},
        [SIGMOID, ("train.py", "nn.BCELoss()", "nn.BCEWithLogitsLoss()"), ("train.py", "return self.model(x).cpu()", "return self.model(x).cpu() * 1")],
        ("train.py", "loss = self.criterion"), [("model.py", "return torch.sig")], verdict="failed", says="`Trainer.predict`: moderate",
    ),
    "loss_not_changed_with_the_model": Case(
        "LP101", {"model.py": NET, "train.py": TRAIN}, [SIGMOID], AT_LOSS, AT_SIGMOID, verdict="failed", says="`train_step`",
    ),
    "wrong_dim": Case(
        "LP106", {"t.py": SEGMENT}, [("t.py", "torch.log(p)", "F.log_softmax(logits, dim=-1)")], ("t.py", "return"),
        verdict="failed", says="became",
    ),
    "guard_that_changes_the_value": Case(
        "LP304", {"t.py": MASKED}, [("t.py", "mask.sum()", "(mask.sum() + 1)")], ("t.py", "return"),
        verdict="failed", says="result: .* became",
    ),
    "clamp_that_leaves_the_gradient_infinite": Case(
        "LP203", {"t.py": PAIRWISE}, [("t.py", ".sum(dim=1)).mean()", ".sum(dim=1).clamp(min=0)).mean()")],
        ("t.py", "return"), verdict="failed", says="not finite, before and after",
    ),
    "eps_outside_of_the_root": Case(
        "LP203", {"t.py": PAIRWISE}, [("t.py", ".sum(dim=1)).mean()", ".sum(dim=1) ).mean() + 1e-8")],
        ("t.py", "return"), verdict="failed", says="not finite, before and after",
    ),
    "nan_to_num": Case(
        "LP203", {"t.py": PAIRWISE}, [("t.py", "torch.sqrt(((a - b) ** 2).sum(dim=1))", "torch.nan_to_num(torch.sqrt(((a - b) ** 2).sum(dim=1)))")],
        ("t.py", "return"), verdict="failed", says="not finite, before and after",
    ),
    "detached": Case(
        "LP202", {"focal.py": CONFIG}, [("focal.py", "torch.log(pt)", "torch.log(pt.clamp(min=1e-8)).detach()"),
        ("focal.py", "(1 - pt) **", "(1 - pt.detach()) **")],
        ("focal.py", "return (-self"), verdict="failed", says="gradient is gone",
    ),
    "changed_shape": Case(
        "LP204", {"t.py": LSE},
        [("t.py", "torch.log(torch.exp(scores).sum(dim=1)).mean()", "torch.logsumexp(scores, dim=1)")],
        ("t.py", "return torch.log(torch.exp"), verdict="failed", says="shape|is gone|is new|a tensor of shape",
    ),
    "zero_gradient": Case(
        "LP106", {"t.py": FOCAL},
        [("t.py", FOCAL_CE[1], 'ce = F.binary_cross_entropy_with_logits(logits.detach(), targets, reduction="none")'),
         ("t.py", "p = torch.sigmoid(logits)", "p = torch.sigmoid(logits.detach())")],
        FOCAL_CE, verdict="failed", says="gradient is gone",
    ),
    "name_that_is_not_there": Case(
        "LP201", {"t.py": KWARGS}, [("t.py", "/ target)", "/ target.clamp(min=EPS))")], ("t.py", "return"),
        verdict="failed", says="NameError",
    ),
    "wrong_reduction": Case(
        "LP106", {"t.py": FOCAL},
        [("t.py", FOCAL_CE[1], "ce = F.binary_cross_entropy_with_logits(logits, targets)")], FOCAL_CE,
        verdict="failed", says="became",
    ),
    "swapped_sign": Case(
        "LP106", {"lit.py": LIGHTNING},
        [("lit.py", "return torch.softmax(self.net(x), dim=1)", "return -torch.log_softmax(self.net(x), dim=1)"),
         ("lit.py", "F.nll_loss(torch.log(self(x)), y)", "F.nll_loss(self(x), y)")],
        ("lit.py", "loss = F.nll"), [("lit.py", "return torch.softmax")], verdict="failed", says="became",
    ),
    # ---- cannot be run
    "top_of_a_script": Case(
        "LP101", {"train.py": SCRIPT},
        [("train.py", "F.binary_cross_entropy(torch.sigmoid(model(x)), y)", "F.binary_cross_entropy_with_logits(model(x), y)")],
        ("train.py", "loss = "), verdict="not run", says="top of a script",
    ),
    "needs_a_file": Case(
        "LP202", {"t.py": DATASET}, [("t.py", "torch.log(x)", "torch.log(x.clamp(min=1e-8))")], ("t.py", "loss = "),
        verdict="not run", says="`run`: ",
    ),
    "package_is_missing": Case(
        "LP202", {"t.py": MISSING}, [("t.py", "torch.log(spec)", "torch.log(spec.clamp(min=1e-8))")], ("t.py", "return torch.log"),
        verdict="not run", says="needs the package imaginary_ops",
    ),
}  # fmt: skip
