"""# LP604 feature-layer-off-by-one

## What it does
Finds a layer of a VGG network that is picked by a number and called by a name that do not agree: `"16": "relu3_3"` for
VGG-16, where 16 is the pool. It knows VGG-11, 13, 16 and 19, with and without batch normalization; dictionaries,
variables, hooks, extractor nodes, slices and loops that cut the network in parts. A number may be an index or the end
of a slice, which is one more; where the code does not say which, either is right.

## Why is this bad
The pool after the activation has a quarter of its values, another scale, and a shift of half a step: weights that were
tuned for one layer fit the other badly, and results cannot be compared with the paper whose layer is named. The number
16 for relu3_3 is copied from post to post: it is the end of a slice, `features[:16]`, not an index.

## Measured
torch 2.13.0. `features` of torchvision, in its order:

| layer | VGG-16 | VGG-16 with batch norm | VGG-19 | VGG-19 with batch norm |
|---|---|---|---|---|
| relu1_2 | 3 | 5 | 3 | 5 |
| relu2_2 | 8 | 12 | 8 | 12 |
| relu3_3 | 15 | 22 | 15 | 22 |
| relu4_3 | 22 | 32 | 24 | 35 |
| relu5_3 | 29 | 42 | 33 | 48 |

The pool that follows keeps 1 of 4 values.

```sh
python -c "
names = []
for block, count in enumerate((2, 2, 3, 3, 3), 1):
    for i in range(1, count + 1):
        names += [f'conv{block}_{i}', f'relu{block}_{i}']
    names.append(f'pool{block}')
print(names[15], names[16], names[:16][-1])"
```
```text
relu3_3 pool3 relu3_3
```

## Wrong
```python
from torch import nn
from torchvision import models


class Features(nn.Module):
    layers = {"3": "relu1_2", "8": "relu2_2", "16": "relu3_3"}

    def __init__(self):
        super().__init__()
        self.net = models.vgg16(weights="DEFAULT").features.eval().requires_grad_(False)

    def forward(self, x):
        found = {}
        for number, layer in self.net.named_children():
            x = layer(x)
            if number in self.layers:
                found[self.layers[number]] = x
        return found
```

## Right
```python
from torch import nn
from torchvision import models


class Features(nn.Module):
    layers = {"3": "relu1_2", "8": "relu2_2", "15": "relu3_3"}

    def __init__(self):
        super().__init__()
        self.net = models.vgg16(weights="DEFAULT").features.eval().requires_grad_(False)

    def forward(self, x):
        found = {}
        for number, layer in self.net.named_children():
            x = layer(x)
            if number in self.layers:
                found[self.layers[number]] = x
        return found
```

## Remedies
- Count in `features` from 0; `print(net.features)` shows the numbers.
- An index is 15, a slice that ends with the same layer is `[:16]`.
- `inplace=True` activations overwrite the convolution before them: its stored output is the activation already.
- `--fix` puts the right number, also where the next slice begins (unsafe: another layer is compared).

## When to ignore it
- When the name only labels the place and the pool is meant: rename it.

## References
- torchvision source: `torchvision/models/vgg.py`, the configurations A, B, D and E.
- Simonyan, Zisserman: "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from lossproof.finding import Finding, Severity
from lossproof.rules.registry import Rule
from lossproof.source.edits import Patch, Unfixable
from lossproof.source.facts import FeatureLayer


def check(fact: FeatureLayer) -> Iterator[Finding]:
    name = fact.arch.upper().replace("VGG", "VGG-").replace("_BN", " with batch norm")
    if fact.end:
        what = f"a slice that ends at {fact.number} ends with `{fact.actual}` in {name}, not with `{fact.layer}`"
        right = f"`[:{fact.right}]`"
    else:
        what = f"layer {fact.number} of {name} is `{fact.actual}`, not `{fact.layer}`"
        right = f"{fact.right}"
    yield fact.finding(
        RULE,
        f"{what}: the loss compares another layer than its name says",
        hint=f"{fact.layer} is {right}",
        fix=partial(_fix, fact),
    )


def _fix(fact: FeatureLayer, patch: Patch) -> tuple[str, str]:
    for at, number, right in [(fact.node.at, fact.number, fact.right), *fact.beside]:
        _put(fact, patch, at, number, right)
    return "unsafe", f"the layer is {fact.layer}, as its name says"


def _put(fact: FeatureLayer, patch: Patch, at: Any, number: int, right: int) -> None:
    module = fact.module
    at = _number(at, number)
    text = _other(patch.text(module, at), number, right)
    patch.replace(module, at, text)
    holder = patch.tree(module).parent(at)
    if isinstance(holder, ast.Dict) and any(k is at for k in holder.keys):
        moved = {id(place) for place, _, _ in fact.beside}
        for key in holder.keys:
            if key is not None and key is not at and id(key) not in moved and patch.text(module, key) == text:
                raise Unfixable(f"{right} has another name already")
    # What begins where this one ended goes on from there.
    for start in _starts(fact, holder, at, number):
        patch.replace(module, start, _other(patch.text(module, start), number, right))


def _number(at: Any, number: int) -> Any:
    """The constant that is the number, in the expression that picks the layer."""
    if isinstance(at, ast.Constant):
        return at
    found = [n for n in ast.walk(at) if isinstance(n, ast.Constant) and _is(n, number)]
    if len(found) != 1 or not isinstance(at, (ast.Subscript, ast.Slice, ast.Call, ast.Compare)):
        raise Unfixable("the number is computed")
    return found[0]


def _is(constant: ast.Constant, number: int) -> bool:
    value = constant.value
    if isinstance(value, str):
        return re.search(rf"(?<!\d){number}$", value) is not None
    return isinstance(value, int) and not isinstance(value, bool) and value == number


def _other(text: str, number: int, right: int) -> str:
    new, count = re.subn(rf"(?<![\w]){number}(?!\d)", str(right), text)
    if count != 1:
        raise Unfixable("the number is computed")
    return new


def _starts(fact: FeatureLayer, holder: Any, at: Any, number: int) -> list[Any]:
    """The beginnings of slices and ranges at the number that a slice, or a range, ended with."""
    if not ((isinstance(holder, ast.Slice) and holder.upper is at) or (_range(holder) and holder.args[-1] is at)):
        return []
    found = []
    for part in ast.walk(fact.frame.function.node):
        start: Any = None
        if isinstance(part, ast.Slice):
            start = part.lower
        elif isinstance(part, ast.Call) and _range(part) and len(part.args) > 1:
            start = part.args[0]
        if isinstance(start, ast.Constant) and start.value == number:
            found.append(start)
    return found


def _range(node: Any) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range" and bool(node.args)
    )


RULE = Rule(
    code="LP604",
    name="feature-layer-off-by-one",
    severity=Severity.WARNING,
    summary="The number that picks a layer of VGG is not the one of the layer that it is called.",
    hint="count from 0 in `features`: relu3_3 of VGG-16 is 15, a slice that ends with it is [:16]",
    page=__doc__ or "",
    evidence="feature-layer-index",
    facts="layer",
    check=check,
)
