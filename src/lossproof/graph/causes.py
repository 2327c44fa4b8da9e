"""What to do about each cause: now, to save the run, and for good, in the code. Data, no logic.

A cause has variants where the remedy differs. ``{op}`` is the operator, ``{rows}`` the rows of the batch in words.
``watch`` names what to keep an eye on afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Advice:
    immediate: tuple[str, ...]
    durable: tuple[str, ...]
    watch: tuple[str, ...] = ()


SKIP = "Do not step on this batch: if not torch.isfinite(loss): optimizer.zero_grad(); continue. Count how often."
CLIP = "torch.nn.utils.clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True) before optimizer.step()."

ADVICE: dict[tuple[str, str], Advice] = {
    ("bad-input", ""): Advice(
        ("Drop or mend {rows}; no change of the model or of the loss helps.",),
        (
            "Check inputs where batches are made: assert torch.isfinite(x).all(), with the sample's id in the message.",
            "Find what made them: a division by a standard deviation of 0, a log of 0, a missing value read as NaN.",
        ),
        ("the share of samples with a non-finite feature",),
    ),
    ("bad-input", "huge"): Advice(
        ("Drop {rows}, or clip the inputs to a plausible range.",),
        ("Normalize inputs with the training set's own mean and deviation, and reject what is far outside.",),
        ("the largest absolute input of a batch",),
    ),
    ("bad-input", "hidden"): Advice(
        (SKIP,),
        (
            "Check the data that goes into {op}: assert torch.isfinite(data).all().",
            "Ask again with autopsy(loss, replay=step), where step makes the loss: then every operator is looked at.",
        ),
    ),
    ("bad-input", "mask"): Advice(
        ("Leave the masked elements out of the reduction: x[mask].mean(), or (x * mask).sum() / mask.sum().",),
        ("Fill with minus infinity only in front of a softmax, a log-sum-exp or a maximum.",),
    ),
    ("bad-input", "number"): Advice(
        ("Print the number: it is computed outside the graph (a weight, a schedule, a count, a temperature).",),
        ("Check it where it is made: assert math.isfinite(weight). A schedule that divides by its step starts at 0.",),
    ),
    ("bad-target", ""): Advice(
        ("Drop or mend {rows}; the network's output is finite.",),
        (
            "Check targets where batches are made: assert torch.isfinite(y).all().",
            "If a missing label is stored as NaN, mask it before the loss: keep = ~torch.isnan(y); "
            "loss(pred[keep], y[keep]).",
        ),
        ("the share of missing labels",),
    ),
    ("bad-target", "huge"): Advice(
        ("Drop {rows}, or clip the targets.",),
        ("Train on standardized or log-transformed targets; use a robust loss (Huber) where outliers are real.",),
        ("the largest absolute target of a batch",),
    ),
    ("bad-target", "hidden"): Advice(
        (SKIP,),
        (
            "Check the data that goes into {op}: assert torch.isfinite(data).all().",
            "Ask again with autopsy(loss, replay=step), where step makes the loss: then every operator is looked at.",
        ),
    ),
    ("bad-target", "class-weight"): Advice(
        ("Set the weight of a class that has no sample to 0 or 1.",),
        ("Make weights from counts with a floor: total / counts.clamp_min(1).",),
        ("classes without a sample in the training set",),
    ),
    ("bad-target", "masked-class"): Advice(
        ("Set the targets of {rows} to ignore_index, or leave these samples out.",),
        ("Build mask and target from one source, and check it: assert allowed.gather(1, target[:, None]).all().",),
        ("targets that the mask excludes",),
    ),
    ("bad-target", "no-alignment"): Advice(
        ("Pass zero_infinity=True to ctc_loss: the loss and the gradient of {rows} become 0.",),
        (
            "Drop samples whose target is longer than the input allows: input_length >= target_length + "
            "repeated labels.",
            "Mind that input_lengths count the frames after the network's down-sampling.",
        ),
        ("the share of samples that zero_infinity silences",),
    ),
    ("zero-denominator", ""): Advice(
        ("Skip {rows}: their denominator is 0.",),
        (
            "Guard the denominator, not the quotient: a / b.clamp_min(1e-6), or (a + s) / (b + s) where both "
            "go to 0 together.",
            "torch.where(b > 0, a / b, 0) is not enough: its gradient is NaN. Replace b first: a / "
            "torch.where(b > 0, b, 1).",
        ),
        ("the smallest denominator of a batch",),
    ),
    ("zero-denominator", "root"): Advice(
        ("Skip {rows}: what is under the root is 0.",),
        ("Keep it off 0: (x + 1e-6).rsqrt(), or torch.nn.functional.normalize(x, dim=-1, eps=1e-6).",),
    ),
    ("zero-denominator", "power"): Advice(
        ("Skip {rows}: the base is 0.",),
        ("Keep the base off 0: x.clamp_min(1e-6) ** exponent.",),
    ),
    ("zero-denominator", "nothing-selected"): Advice(
        ("Skip the batch when nothing is selected: if mask.any(): loss = loss + x[mask].mean().",),
        (
            "Divide by a count that cannot be 0: (x * mask).sum() / mask.sum().clamp_min(1). With no element "
            "this is 0, with a"
            "gradient of 0.",
        ),
        ("batches in which nothing is selected",),
    ),
    ("zero-denominator", "all-ignored"): Advice(
        ("Skip the batch when every target is ignored: if (target != ignore_index).any(): …",),
        (
            "Sum and divide yourself: F.cross_entropy(x, y, reduction='sum') / (y != ignore_index).sum().clamp_min(1).",
            "Find out why a whole batch has no label: truncation that cuts the answers off, a wrong ignore_index.",
        ),
        ("the share of ignored targets",),
    ),
    ("zero-denominator", "spread-of-one"): Advice(
        ("Skip a batch of one (drop_last=True in the DataLoader).",),
        ("Use correction=0, or leave the term out where there is one element.",),
    ),
    ("zero-denominator", "empty-softmax"): Advice(
        ("Leave {rows} out of the batch: every position of a row is masked.",),
        (
            "Let each row attend to something: keep the first (or the own) position unmasked, and mask the "
            "result instead.",
            "Fill with a finite number: masked_fill(mask, torch.finfo(x.dtype).min) gives a uniform row and no NaN.",
            "Zeroing the row afterwards is enough behind masked_fill, whose gradient is 0 there; behind an added bias "
            "of -inf it mends the value and leaves the gradient NaN.",
        ),
        ("rows that are masked from end to end (padding-only samples)",),
    ),
    ("zero-denominator", "normalization"): Advice(
        ("Use an eps of at least 1e-5 (1e-3 in float16) in {op}.",),
        ("Find why a feature is constant over what is normalized: padding, a dead layer, a batch of one.",),
    ),
    ("log-domain", "log"): Advice(
        ("Skip {rows}: the logarithm's operand is 0 or negative there.",),
        (
            "Compute the logarithm of a probability from logits: F.log_softmax(x, dim=1), F.logsigmoid(x).",
            "Where it is not a probability, keep it positive where it is made (softplus, exp), or "
            "x.clamp_min(1e-6).log().",
            "torch.where(x > 0, x.log(), 0) is not enough: its gradient is NaN. Replace x first: "
            "torch.where(x > 0, x, 1).log().",
        ),
        ("the smallest operand of the logarithm",),
    ),
    ("log-domain", "root"): Advice(
        ("Skip {rows}: the root's operand is negative there.",),
        (
            "Find why it can be negative: E[x²] - E[x]² cancels; use x.var(correction=0) or sum the squares "
            "of differences.",
            "If it is rounding alone: x.clamp_min(1e-8).sqrt() (a floor of exactly 0 has an infinite gradient).",
        ),
    ),
    ("log-domain", "power"): Advice(
        ("Skip {rows}: a negative number has no fractional power.",),
        ("Keep the base positive: x.clamp_min(1e-6) ** p, or x.sign() * x.abs() ** p where the sign matters.",),
    ),
    ("log-domain", "domain"): Advice(
        ("Skip {rows}: the operand lies outside the function's domain.",),
        (
            "Clamp inside the edge, not at it: x.clamp(-1 + 1e-6, 1 - 1e-6) (at the edge the gradient is infinite).",
            "For an angle use torch.atan2(cross, dot), which is defined everywhere but at (0, 0).",
        ),
    ),
    ("log-domain", "masked"): Advice(
        ("Replace the infinities before they are multiplied: p * logp.masked_fill(mask, 0).",),
        (
            "Fill with a large finite number instead: 0 * -inf is NaN, and so is the gradient of xlogy at (0, 0).",
            "Or leave the masked elements out: (p * logp)[~mask].sum().",
        ),
    ),
    ("exp-overflow", ""): Advice(
        ("Skip {rows}; lower the learning rate if their logits grew during training.",),
        (
            "Use the form that cannot overflow: log_softmax, logsumexp, softplus, binary_cross_entropy_with_logits.",
            "Where the exponential itself is meant (a rate, a variance): x.clamp(max=15).exp(), or softplus(x).",
        ),
        ("the largest operand of the exponential",),
    ),
    ("exp-overflow", "power"): Advice(
        ("Skip {rows}; look at the largest exponent.",),
        ("Work with logarithms (y * log x), or bound the exponent: y.clamp(max=…).",),
    ),
    ("half-overflow", "forward"): Advice(
        (
            "Run this part in float32: with torch.autocast(device, enabled=False): loss = "
            "criterion(x.float(), y.float()).",
        ),
        (
            "Use bfloat16, whose range is float32's, or keep losses, norms and sums in float32.",
            "Take the mean before the sum of squares, or scale before squaring.",
        ),
        ("the largest activation against 65504",),
    ),
    ("half-overflow", "gradient"): Advice(
        ("With a GradScaler this step is skipped and the scale halved: a few of these at the start are normal.",),
        (
            "Use bfloat16, or compute the loss in float32: criterion(output.float(), target).",
            "If it never stops: lower init_scale, and clip after scaler.unscale_(optimizer).",
        ),
        ("GradScaler.get_scale(): it should settle, not fall for ever",),
    ),
    ("gradient-only", ""): Advice(
        (SKIP, CLIP),
        ("Keep the operand of {op} off the edge of its domain before it is computed, not after.",),
    ),
    ("gradient-only", "root"): Advice(
        (SKIP,),
        (
            "Add inside the root: (x + 1e-8).sqrt(). clamp(min=0) and relu leave the infinite slope at 0.",
            "For a length use torch.linalg.vector_norm(x, dim=-1): its gradient at 0 is 0.",
        ),
        ("how many operands of the root are exactly 0",),
    ),
    ("gradient-only", "power"): Advice(
        (SKIP,),
        (
            "Keep the base off 0: x.clamp_min(1e-6) ** p (a focal loss with gamma < 1 needs it on 1 - p).",
            "Or use an exponent of at least 1.",
        ),
    ),
    ("gradient-only", "arc"): Advice(
        (SKIP,),
        ("Clamp inside the edge: x.clamp(-1 + 1e-6, 1 - 1e-6).acos(); or torch.atan2(cross, dot).",),
    ),
    ("gradient-only", "division"): Advice(
        (SKIP,),
        ("Guard the denominator itself: a / b.clamp_min(1e-6); its gradient divides by the square.",),
    ),
    ("gradient-only", "log"): Advice(
        (SKIP,),
        ("Guard the operand itself: x.clamp_min(1e-6).log(), or a logarithm from logits (log_softmax, logsigmoid).",),
    ),
    ("gradient-only", "trap"): Advice(
        (SKIP,),
        (
            "Replace the operand before {op}, not the result after: torch.where(ok, x, 1) first, then {op}, "
            "then the mask."
            "where, masked_fill, a product with 0 and nan_to_num mend the value and leave the gradient NaN.",
        ),
        ("how many elements the mask hides",),
    ),
    ("gradient-only", "softmax"): Advice(
        (SKIP,),
        ("Let no row be masked from end to end, or fill with torch.finfo(x.dtype).min instead of -inf.",),
    ),
    ("gradient-only", "decomposition"): Advice(
        (SKIP,),
        ("The gradient divides by differences of singular values: break ties with a small diagonal, or in float64.",),
    ),
    ("diverged", ""): Advice(
        (
            "Go back to the last good checkpoint: the weights themselves are out of range.",
            "Lower the learning rate (by 10) and clip: " + CLIP,
        ),
        (
            "Warm the learning rate up; normalize activations; look at the step where the loss began to grow.",
            "A loss that can fall without bound drives weights to infinity: check for a negated term with no floor.",
        ),
        ("the norm of the gradient and of the weights, step by step",),
    ),
    ("diverged", "gradient"): Advice(
        ("Clip: " + CLIP,),
        ("Lower the learning rate; use a mean instead of a sum over the batch.",),
        ("the norm of the gradient",),
    ),
    ("bad-weights", ""): Advice(
        ("Load the last checkpoint whose weights are finite: nothing computed from these can be.",),
        (
            "Check before saving and after loading: all(torch.isfinite(p).all() for p in model.parameters()).",
            "If it happened during training, the step before had a non-finite gradient: guard it. " + CLIP,
        ),
        ("the first step at which a parameter is not finite",),
    ),
    ("bad-weights", "buffer"): Advice(
        ("Reset the running statistics (module.reset_running_stats()) and let training fill them again.",),
        ("One bad batch in train mode poisons them for ever: check inputs before the forward pass.",),
        ("running_mean and running_var",),
    ),
    ("bad-optimizer-state", ""): Advice(
        ("Drop the state of the named parameters: optimizer.state.pop(parameter); or load an earlier checkpoint.",),
        (
            "Never step on a non-finite gradient: one enters the running averages and stays.",
            "Check the state after loading a checkpoint, as you check weights.",
        ),
        ("exp_avg and exp_avg_sq after loading",),
    ),
    ("bad-optimizer-state", "left-over"): Advice(
        ("optimizer.zero_grad() before this backward pass.",),
        ("Clear gradients of a skipped batch too: if not torch.isfinite(loss): optimizer.zero_grad(); continue.",),
        ("batches that were skipped",),
    ),
    ("bad-optimizer-state", "epsilon"): Advice(
        ("Give the optimizer an eps that float16 holds (1e-4), or keep float32 weights.",),
        ("Keep master weights in float32 and use autocast for the forward pass: model.float(), torch.autocast(…).",),
        ("the share of second moments that are exactly 0",),
    ),
    ("unknown", "changed-outside"): Advice(
        ("Look for writes that autograd does not see: .data, an assignment under no_grad, a shared array.",),
        ("Write with torch.where or masked_fill, so that the graph shows where a value comes from.",),
    ),
    ("unknown", ""): Advice(
        (SKIP,),
        ("Ask again with autopsy(loss, replay=step), where step makes the loss: then every operator is looked at.",),
    ),
}


def advice(cause: str, variant: str) -> Advice:
    found = ADVICE.get((cause, variant)) or ADVICE.get((cause, ""))
    return found or ADVICE["unknown", ""]
