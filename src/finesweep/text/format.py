"""Formats numbers, times, names and texts from outside for a person."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from finesweep.trial import Value

_LONGEST_READ = 20_000
_ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b]{0,4000}(?:\x07|\x1b\\)"  # operating system commands: titles, links, clipboard
    r"|\x1b[PX^_][^\x1b]{0,4000}\x1b\\"  # device control strings
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor
    r"|\x1b[ -/]*[0-Z\\^-~]"
)
# What a terminal acts on or hides: control characters, bidirectional overrides, zero-width marks, tags.
# The two joiners (200c, 200d) stay: scripts and emoji need them.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SHORT = {
    "learning_rate": "lr",
    "num_train_epochs": "epochs",
    "per_device_train_batch_size": "batch",
    "gradient_accumulation_steps": "accumulation",
    "weight_decay": "decay",
    "warmup_steps": "warmup",
    "lr_scheduler_type": "schedule",
    "label_smoothing_factor": "smoothing",
    "max_grad_norm": "clipping",
    "neftune_noise_alpha": "neftune",
    "adam_epsilon": "epsilon",
    "adam_beta1": "beta1",
    "adam_beta2": "beta2",
}
"""Headings of common hyperparameters, where a table has to be narrow."""


def clean(text: object, limit: int = 300) -> str:
    """Make one printable line of a text from outside, as a label or a note, that is read for what it says.

    In an error message, where each character of what was found counts, ``errors.printable`` escapes instead. Escape
    sequences and characters that act on a terminal or hide are dropped, line breaks become
    spaces, halves of surrogate pairs (which cannot be written as UTF-8) become U+FFFD.

    Args:
        text: Anything; what is no text is converted.
        limit: Longest result in characters; the rest becomes ``...``.
    """
    shown = str(text)[:_LONGEST_READ]
    if not shown.isprintable():
        shown = _UNSEEN.sub("", " ".join(_ESCAPES.sub("", shown).split()))
        shown = _SURROGATES.sub("\ufffd", shown)
    shown = " ".join(shown.split())
    return shortened(shown, limit)


def shortened(text: str, limit: int) -> str:
    """Return a text of at most ``limit`` characters, at least 3; ``...`` stands for what is left out at its end."""
    return text if len(text) <= limit else text[: max(limit - 3, 0)].rstrip() + "..."


def first_few(texts: Sequence[str], most: int, separator: str = ", ") -> str:
    """List the first texts and how many more there are: ``a, b and 3 more``.

    Args:
        texts: What is listed, ready to be shown.
        most: How many are shown.
        separator: Stands between two.
    """
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return separator.join(texts[:most]) + more


def headings(names: Sequence[str]) -> list[str]:
    """Return a short heading for each hyperparameter: ``lr``, ``batch``, ``hidden_dropout_prob``.

    Two names that would have the same heading keep their full ones.
    """
    short = [_SHORT.get(name, name.removeprefix("model.").removeprefix("data.")) for name in names]
    counts = Counter(short)
    return [clean(heading if counts[heading] == 1 else name) for name, heading in zip(names, short, strict=True)]


def finite(value: float | None) -> float | None:
    """Return a number, or None where it is none that JSON could hold."""
    return value if value is not None and math.isfinite(value) else None


def metric(value: float | None) -> str:
    """Write a loss or a score with four decimals: ``0.4206``, ``1.2269e+09``."""
    value = finite(value)
    if value is None:
        return ""
    return f"{value:.4f}" if value == 0 or 5e-4 <= abs(value) < 1e5 else f"{value:.4e}"


def setting(value: Value, limit: int = 40) -> str:
    """Write a hyperparameter: ``3.2e-05``, ``0.06``, ``16``, ``true``, ``null``, ``cosine``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.1e}".replace(".0e", "e") if 0 < abs(value) < 1e-3 else f"{value:.4g}"
    return clean(value, limit)


def duration(seconds: float) -> str:
    """Write a time span: ``4.2 s``, ``42 s``, ``3 min 20 s``, ``2 h 05 min``."""
    seconds = max(finite(seconds) or 0.0, 0.0)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def clock(seconds: float) -> str:
    """Write a time span for a narrow column: ``0:42``, ``3:20``, ``2:05:10``."""
    whole = int(max(finite(seconds) or 0.0, 0.0))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def without_numbers(text: str) -> str:
    """Return a text with each number replaced, so that messages which differ in their numbers only are equal."""
    return _NUMBER.sub("#", text)
