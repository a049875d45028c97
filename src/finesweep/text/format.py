"""Formats numbers, times, hyperparameters and foreign texts for the terminal and for tables."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from finesweep.trial import Value

# Only so many characters of a text are looked at, since a label or a note can be megabytes long.
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
    """Make one printable line of a foreign text, as a label or a note.

    Escape sequences, control characters and invisible characters are dropped. Line breaks become spaces. Halves of
    surrogate pairs, which UTF-8 cannot hold, become U+FFFD. Use ``errors.printable`` for an error message, where each
    character counts: it escapes them instead.

    Args:
        text: Anything; a value that is no text is converted with ``str``.
        limit: Maximum length of the result in characters; the rest becomes ``...``.
    """
    shown = str(text)[:_LONGEST_READ]
    if not shown.isprintable():
        # Escape sequences first: without their first character the rest would remain as text.
        shown = _UNSEEN.sub("", " ".join(_ESCAPES.sub("", shown).split()))
        shown = _SURROGATES.sub("\ufffd", shown)
    shown = " ".join(shown.split())
    return shortened(shown, limit)


def shortened(text: str, limit: int) -> str:
    """Cut a text to ``limit`` characters (at least 3), of which the last three are then ``...``."""
    return text if len(text) <= limit else text[: max(limit - 3, 0)].rstrip() + "..."


def first_few(texts: Sequence[str], most: int, separator: str = ", ") -> str:
    """List the first texts and the number of the others: ``a, b and 3 more``.

    Args:
        texts: Texts that are ready to be shown.
        most: Number of texts that are shown.
        separator: Text between two of them.
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
    """Return a finite number as it is; None for NaN, infinity and None, so that JSON can hold the result."""
    return value if value is not None and math.isfinite(value) else None


def metric(value: float | None) -> str:
    """Format a loss or a score with four decimals: ``0.4206``, ``1.2269e+09``; an empty string if it is not finite."""
    value = finite(value)
    if value is None:
        return ""
    return f"{value:.4f}" if value == 0 or 5e-4 <= abs(value) < 1e5 else f"{value:.4e}"


def setting(value: Value, limit: int = 40) -> str:
    """Format a hyperparameter: ``3.2e-05``, ``0.06``, ``16``, ``true``, ``null``, ``cosine``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.1e}".replace(".0e", "e") if 0 < abs(value) < 1e-3 else f"{value:.4g}"
    return clean(value, limit)


def duration(seconds: float) -> str:
    """Format a time span: ``4.2 s``, ``42 s``, ``3 min 20 s``, ``2 h 05 min``."""
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
    """Format a time span for a narrow column: ``0:42``, ``3:20``, ``2:05:10``."""
    whole = int(max(finite(seconds) or 0.0, 0.0))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def without_numbers(text: str) -> str:
    """Replace each number by ``#``, so that messages that differ only in their numbers become equal."""
    return _NUMBER.sub("#", text)
