"""Random programs with an activation before a loss: the fix is applied, and both programs are run.

Of LP101 the loss stays what it is; of LP102 and LP103 it becomes what the logits give. What everybody else reads stays
the same, whatever lies between: helpers, files, shapes, names, readers.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_fixes import importing_from, leaves, quietly

from lossproof.check import Options
from lossproof.mend import mend

torch = pytest.importorskip("torch")

HEAD = "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n"
# The activation of each rule in its forms, the loss of a program, and what the loss becomes.
KINDS: dict[str, dict[str, Any]] = {
    "LP101": {
        "act": ["torch.sigmoid({})", "{}.sigmoid()", "F.sigmoid({})", "self.act({})"],
        "layer": "nn.Sigmoid()",
        "loss": ["F.binary_cross_entropy({}, {})", "nn.BCELoss()({}, {})", "criterion({}, {})"],
        "criterion": "nn.BCELoss()",
        "direct": "binary_cross_entropy_with_logits",
    },
    "LP102": {
        "act": ["torch.softmax({}, dim=1)", "{}.softmax(1)", "F.softmax({}, 1)", "self.act({})"],
        "layer": "nn.Softmax(dim=1)",
        "loss": ["F.cross_entropy({}, {})", "criterion({}, {})"],
        "criterion": "nn.CrossEntropyLoss()",
        "direct": "cross_entropy",
    },
    "LP103": {
        "act": ["torch.sigmoid({})", "{}.sigmoid()", "self.act({})"],
        "layer": "nn.Sigmoid()",
        "loss": ["F.binary_cross_entropy_with_logits({}, {})", "criterion({}, {})"],
        "criterion": "nn.BCEWithLogitsLoss()",
        "direct": "binary_cross_entropy_with_logits",
    },
}
KEPT_AXES = ["{}", "{}.contiguous()", "{}.float()", "{}.clone()", "{}.to(torch.float32)"]
# After these a softmax would not be over the same axis: such a fix is refused (see test_unfixable_activations).
OTHER_AXES = ["{}.view(-1, 3)", "{}.reshape(-1, 3)", "{}.unsqueeze(0).squeeze(0)"]
READERS = [
    "    kept.append({net}(x).mean().item())",
    "    kept.append(({net}(x) > 0.4).float())",
    "    kept.extend(float(v) for v in {net}(x)[0])",
    "    p = {net}(x)\n    kept.append(p.max(1).values)\n    kept.append(p.argmax(1))",
    "    for row in {net}(x):\n        kept.append(row.tolist())",
    "    p = {net}(x).detach()\n    p[p < 0.3] = 0\n    kept.append(p)",
    "    found = {{}}\n    found['a'] = {net}(x[:2])\n    found[1 + 1] = {net}(x[2:])\n    kept += found.values()",
    "    kept.append(torch.stack([{net}(part) for part in x.split(2)]))",
    "    p = {net}(x)\n    kept.append(sorted(range(6), key=lambda i: -p[i, 0].item()))",
    "    kept.append(report({net}, x))",
    "    kept.append(f'{{{net}(x)[0, 0].item():.4f}}')",
    "    p, q = {net}(x).split(3)\n    kept.append(p - q)",
    "    a = {net}(x) if len(kept) > 99 else {net}(x) * 2\n    kept.append(a)",
]
HELPER = (
    "\n\ndef report(network, rows):\n    out = network(rows)\n    return {'top': out.topk(2).values, 'n': len(out)}\n"
)


@st.composite
def programs(draw: st.DrawFn) -> tuple[str, dict[str, str]]:
    rule = draw(st.sampled_from(sorted(KINDS)))
    kind = KINDS[rule]
    pick = lambda options: draw(st.sampled_from(options))  # noqa: E731
    net, out, hidden = (
        pick(["net", "model", "classifier"]),
        pick(["out", "probs", "pred", "y_hat"]),
        pick(["h", "z", "x"]),
    )
    form = pick(["inside", "tail", "method", "loop"])
    act = pick(kind["act"]).format("self.fc(x)" if form != "method" else hidden)
    shapes = KEPT_AXES if rule == "LP102" else KEPT_AXES + OTHER_AXES
    shape = pick(shapes)
    body = ["class Net(nn.Module):", "    def __init__(self):", "        super().__init__()"]
    if form == "tail":
        layers = f"nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3), {kind['layer']}"
        body += [f"        self.body = nn.Sequential({layers})", "", "    def forward(self, x):"]
        body += [f"        return {shape.format('self.body(x)')}"]
    else:
        body += [
            "        self.fc = nn.Linear(4, 3)",
            f"        self.act = {kind['layer']}",
            "",
            "    def forward(self, x):",
        ]
        if form == "method":
            body += [f"        {hidden} = self.fc(x)", f"        {out} = {act}", f"        return {shape.format(out)}"]
        elif form == "loop":
            body += ["        for _ in range(1):", f"            {out} = {act}", f"        return {shape.format(out)}"]
        else:
            body += [f"        return {shape.format(act)}"]
    build = f"def build():\n    torch.manual_seed(1)\n    {net} = Net()\n    return {net}\n"
    loss = pick(kind["loss"])
    between = pick(KEPT_AXES + OTHER_AXES)
    steps = [f"    {net} = build()", f"    optimizer = torch.optim.SGD({net}.parameters(), lr=0.0)"]
    inline = draw(st.booleans())
    if inline:
        steps += [f"    loss = {loss.format(between.format(f'{net}(x)'), 'y')}"]
    else:
        steps += [f"    {out} = {net}(x)", f"    loss = {loss.format(between.format(out), 'y')}"]
    steps += ["    optimizer.zero_grad()", "    loss.backward()", "    optimizer.step()"]
    if not inline and draw(st.booleans()):
        steps += [f"    LOG.append({out}.mean().item())"]
    train = "def train(x, y):\n" + "\n".join([*steps, "    return loss"])
    criterion = f"criterion = {kind['criterion']}\nLOG = []\n"
    chosen = draw(st.lists(st.sampled_from(READERS), min_size=1, max_size=3))
    read = f"def read(x, y):\n    {net} = build()\n    kept = []\n"
    read += "\n".join(reader.format(net=net) for reader in chosen) + "\n    return kept\n"
    model, rest = HEAD + "\n\n" + "\n".join(body) + "\n\n\n" + build, f"{criterion}{HELPER}\n\n{train}\n\n\n"
    layout = pick(["one", "two", "three"])
    if layout == "one":
        return rule, {"program.py": f"{model}\n\n{rest}{read}"}
    if layout == "two":
        return rule, {"nets.py": model, "program.py": f"{HEAD}from nets import build\n\n\n{rest}{read}"}
    return rule, {
        "nets.py": model,
        "evaluation.py": f"{HEAD}import nets\nfrom nets import build\n{HELPER}\n\n{read}",
        "program.py": f"{HEAD}from evaluation import read\nfrom nets import build\n\n\n{rest}",
    }


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(programs())
def test_a_moved_activation_changes_nothing_for_anybody_else(program: tuple[str, dict[str, str]]) -> None:
    rule, files = program
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in files.items():
            (folder / file).write_text(text)
        loss, kept, _ = outcome(folder, rule)
        mended = mend([folder], Options(cache=False, select=[rule]), unsafe=True)
        assert mended.fixed, [finding.remedy.note for finding in mended.report.findings]
        assert mended.failed == []
        assert mended.report.findings == []
        mended.write()
        after, still, direct = outcome(folder, rule)
        assert still == pytest.approx(kept, abs=1e-5)
        assert after == pytest.approx(loss if rule == "LP101" else direct, abs=1e-5)


def outcome(folder: Path, rule: str) -> tuple[float, list[Any], float]:
    """The loss, what is read, and what the loss of the network's own output is in its form for logits."""
    torch.manual_seed(0)
    x = torch.randn(6, 4)
    y = torch.randint(0, 3, (6,)) if rule == "LP102" else torch.randint(0, 2, (6, 3)).float()
    with quietly(), importing_from(folder) as load:
        program = load("program")
        loss = program.train(x, y).item()
        kept = leaves([program.LOG, program.read(x, y)])
        direct = getattr(torch.nn.functional, KINDS[rule]["direct"])(program.build()(x), y).item()
    return loss, kept, direct
