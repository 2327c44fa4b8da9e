"""Everybody who reads what a network gives reads the same after the activation has moved out of it.

Each program trains on ``F.binary_cross_entropy(net(x), y)`` with the sigmoid inside the network, and reads the output
in one more way. It is mended, and what ``read`` gives is compared with what it gave.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from test_fixes import importing_from, leaves, quietly

from lossproof.check import Options
from lossproof.mend import mend

torch = pytest.importorskip("torch")

HEAD = """
import torch
import torch.nn.functional as F
from torch import nn

"""
NET1 = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 1)
    def forward(self, x):
        return torch.sigmoid(self.fc(x)).squeeze(1)
def build():
    torch.manual_seed(1)
    return Net()
"""
NET2 = NET1.replace("nn.Linear(4, 1)", "nn.Linear(4, 2)").replace(".squeeze(1)", "")
STEP = """net = build()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    loss = F.binary_cross_entropy(net(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss"""
PROGRAMS = {
    "iterated rows": """
NET1
def train(x, y):
    STEP
def read(x, y):
    net = build()
    out = []
    for row in net(x):
        out.append(row.item() > 0.4)
    for i, row in enumerate(net(x)):
        out.append((i, row.item()))
    for row, t in zip(net(x), y):
        out.append(abs(row.item() - t.item()))
    return out
""",
    "rows of rows": """
NET2
def train(x, y):
    STEP
def read(x, y):
    net = build()
    return [[p.item() > 0.45 for p in row] for row in net(x)], [max(row) for row in net(x).tolist()]
""",
    "results by name": """
NET1
def train(x, y):
    STEP
def read(x, y):
    net = build()
    results = {}
    for name, part in (("a", x[:3]), ("b", x[3:])):
        results[name] = net(part)
    return results["a"].mean().item(), {k: v.max().item() for k, v in results.items()}
""",
    "returned dictionary": """
NET1
def train(x, y):
    STEP
def outputs(net, x):
    results = {}
    results["prob"] = net(x)
    results["x"] = x
    return results
def read(x, y):
    r = outputs(build(), x)
    return (r["prob"] > 0.5).tolist(), r["prob"]
""",
    "preallocated": """
NET1
def train(x, y):
    STEP
def read(x, y):
    net = build()
    scores = torch.zeros(6)
    for i in range(0, 6, 2):
        scores[i:i + 2] = net(x[i:i + 2])
    return scores
""",
    "nested function": """
NET1
def train(x, y):
    STEP
def read(x, y):
    net = build()
    out = net(x)
    def show(t):
        return (out > t).sum().item()
    return [show(t) for t in (0.3, 0.5, 0.7)], sorted(range(6), key=lambda i: -out[i].item())
""",
    "module level": """
NET1
model = build()
probs = model(torch.ones(2, 4))
def train(x, y):
    STEP
def read(x, y):
    return probs.tolist(), (probs > 0.5).tolist()
""",
    "kept on object": """
NET1
def train(x, y):
    STEP
class Cache:
    def __init__(self, net):
        self.net = net
        self.last = None
    def run(self, x):
        self.last = self.net(x)
        return self
    def mean(self):
        return self.last.mean().item()
def read(x, y):
    return Cache(build()).run(x).mean()
""",
    "yielded": """
NET1
def train(x, y):
    STEP
def stream(net, x):
    for row in x.split(2):
        yield net(row)
def read(x, y):
    return torch.cat(list(stream(build(), x)))
""",
    "passed as callable": """
NET1
def train(x, y):
    STEP
def sliding(image, predictor):
    return torch.cat([predictor(part) for part in image.split(2)])
def read(x, y):
    net = build()
    return sliding(x, net)
""",
    "subclass calls super": """
NET1
class Bounded(Net):
    def forward(self, x):
        return super().forward(x) * 0.9 + 0.05
def train(x, y):
    STEP
def read(x, y):
    torch.manual_seed(1)
    return Bounded()(x)
""",
    "forward called on class": """
NET1
def train(x, y):
    STEP
def read(x, y):
    net = build()
    return Net.forward(net, x), net.forward(x), net.__call__(x), nn.DataParallel(net).module(x)
""",
    "swa": """
NET1
def train(x, y):
    STEP
def read(x, y):
    from torch.optim.swa_utils import AveragedModel
    net = build()
    swa = AveragedModel(net)
    return swa(x) > 0.5, swa(x)
""",
    "registry of models": """
NET1
MODELS = {"net": Net, "linear": nn.Linear}
def train(x, y):
    STEP
def read(x, y, name="net"):
    torch.manual_seed(1)
    model = MODELS[name]()
    return model(x)
""",
    "getattr model": """
NET1
import sys
def train(x, y):
    STEP
def read(x, y, name="Net"):
    torch.manual_seed(1)
    model = getattr(sys.modules[__name__], name)()
    return model(x)
""",
    "loaded whole": """
NET1
import io
def train(x, y):
    STEP
def read(x, y):
    buffer = io.BytesIO()
    torch.save(build(), buffer)
    buffer.seek(0)
    model = torch.load(buffer, weights_only=False)
    return model(x)
""",
    "reassigned name": """
NET1
def train(x, y):
    net = build()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    out = net(x)
    loss = F.binary_cross_entropy(out, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    out = out.detach().cpu().numpy()
    hits = (out > 0.5).sum()
    out = net(x)
    LOG.append((int(hits), float(out.max())))
    return loss
LOG = []
def read(x, y):
    LOG.clear()
    train(x, y)
    return list(LOG)
""",
    "in place": """
NET1
def train(x, y):
    STEP
def read(x, y):
    net = build()
    out = net(x).detach()
    out[out < 0.5] = 0
    out2 = net(x).detach()
    out2 *= 2
    out3 = net(x).detach()
    out3.mul_(3)
    return out, out2, out3
""",
    "thresholds": """
NET1
def train(x, y):
    STEP
def read(x, y):
    net = build()
    out = net(x)
    return out.round(), torch.round(out), out.gt(0.5), torch.where(out > 0.5, 1, 0), (0.3 < out) & (out < 0.6), \\
        out.ge(0.5).long(), 1 - out, -out, out ** 2, out.bool().sum(), bool((out < 0.9).all())
""",
    "reshaped readers": """
NET2
def train(x, y):
    STEP
def read(x, y):
    net = build()
    a, b = net(x).chunk(2, dim=1)
    c, d = net(x).unbind(1)
    e = net(x)[:, 1]
    f = net(x).view(-1)[3]
    g, *h = net(x).split(2)
    return a > 0.5, b, c, d, e, f, g, h, net(x).transpose(0, 1).contiguous().max(), \\
        net(x).sum(1, keepdim=True), net(x).topk(1).values
""",
    "printed": """
NET1
def train(x, y):
    STEP
def read(x, y):
    net = build()
    out = net(x)
    return f"{out[0].item():.3f} {out.mean()}", "%.3f" % out[0].item(), "{:.2f}".format(out[1].item()), \\
        out.shape, len(out), out.dtype
""",
    "walrus and ternary": """
NET1
def train(x, y):
    STEP
def read(x, y, use=True):
    net = build()
    if (p := net(x)).max() > 0.4:
        kept = p[p > 0.4]
    else:
        kept = p
    both = net(x) if use else torch.zeros(6)
    either = use and net(x)
    return kept, both, either
""",
    "named tuple and kwargs": """
NET1
from collections import namedtuple
Result = namedtuple("Result", "prob label")
def train(x, y):
    STEP
def judge(prob, label, threshold=0.5):
    return ((prob > threshold).float() == label).float().mean().item()
def read(x, y):
    net = build()
    r = Result(net(x), y)
    args = {"prob": net(x), "label": y}
    return r.prob, judge(r.prob, r.label), judge(**args), judge(*(net(x), y)), judge(prob=net(x), label=y)
""",
    "metric object": """
NET1
def train(x, y):
    STEP
class Brier:
    def __init__(self):
        self.total, self.n = 0.0, 0
    def update(self, p, t):
        self.total += ((p - t) ** 2).sum().item()
        self.n += len(p)
    def compute(self):
        return self.total / self.n
def read(x, y):
    net = build()
    meter = Brier()
    meter.update(net(x), y)
    meters = [Brier(), Brier()]
    for m in meters:
        m.update(net(x), y)
    return meter.compute(), [m.compute() for m in meters]
""",
    "activation shared with gate": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(4, 4)
        self.fc = nn.Linear(4, 1)
        self.sigmoid = nn.Sigmoid()
    def forward(self, x):
        x = x * self.sigmoid(self.gate(x))
        return self.sigmoid(self.fc(x)).squeeze(1)
def build():
    torch.manual_seed(1)
    return Net()
def train(x, y):
    STEP
def read(x, y):
    net = build()
    return net(x), net.sigmoid(x)
""",
    "sequential used twice": """
head = nn.Sequential(nn.Linear(4, 1), nn.Sigmoid())
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.att = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid())
        self.out = nn.Sequential(nn.Linear(4, 1), nn.Sigmoid())
    def forward(self, x):
        return self.out(x * self.att(x)).squeeze(1)
    def score(self, x):
        return self.out(x).squeeze(1) * 2
def build():
    torch.manual_seed(1)
    return Net()
def train(x, y):
    STEP
def read(x, y):
    net = build()
    return net(x), net.score(x), net.out(x), net.att(x)
""",
    "two networks one base": """
class Base(nn.Module):
    def forward(self, x):
        return torch.sigmoid(self.head(x)).squeeze(1)
class Net(Base):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 1)
class Deep(Base):
    def __init__(self):
        super().__init__()
        self.head = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
def build():
    torch.manual_seed(1)
    return Net()
def train(x, y):
    STEP
def read(x, y):
    torch.manual_seed(1)
    return Deep()(x), build()(x)
""",
    "baseline copy": """
NET1
def train(x, y):
    STEP
def read(x, y):
    net = build()
    p = net(x)
    q = p.clone()
    q[0] = 0.5
    stats = dict(mean=p.mean().item(), low=(p < 0.2).sum().item())
    order = torch.argsort(p, descending=True)
    entropy = -(p * p.log() + (1 - p) * (1 - p).log()).mean().item()
    return q, stats, order, entropy, torch.stack([1 - p, p], 1), p.new_tensor(0.5), torch.zeros_like(p), p.expand(2, 6)
""",
    "try and while": """
NET1
def train(x, y):
    STEP
def read(x, y):
    net = build()
    try:
        out = net(x)
    except RuntimeError:
        out = torch.zeros(6)
    n = 0
    best = None
    while n < 2:
        p = net(x + n)
        if best is None or p.max() > best.max():
            best = p
        n += 1
    return out, best
""",
    "running product": """
NET1
def train(x, y):
    STEP
def read(x, y):
    net = build()
    out = 0
    for k in range(3):
        out = out + net(x + k)
    out = out / 3
    total = sum(net(x + k) for k in range(3)) / 3
    tta = (net(x) + net(x.flip(1))) / 2
    return out, total, tta > 0.5
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_who_reads_the_output_reads_the_same(name: str, tmp_path: Path) -> None:
    body = PROGRAMS[name]
    shape = (6, 2) if "NET2" in body else (6,)
    source = HEAD + body.replace("NET1", NET1).replace("NET2", NET2).replace("STEP", STEP)
    file = tmp_path / "program.py"
    file.write_text(source)
    before = outcome(tmp_path, shape)
    mended = mend([tmp_path], Options(cache=False, select=["LP101"]))
    assert mended.fixed, [finding.remedy.note for finding in mended.report.findings]
    assert mended.failed == []
    assert mended.report.findings == []
    mended.write()
    assert outcome(tmp_path, shape) == pytest.approx(before, abs=1e-5)


def outcome(folder: Path, shape: tuple[int, ...]) -> list[object]:
    """The loss, and all that is read."""
    torch.manual_seed(0)
    x, y = torch.randn(6, 4), torch.randint(0, 2, shape).float()
    with quietly(), importing_from(folder) as load:
        program = load("program")
        return leaves([program.train(x, y), program.read(x, y)])
