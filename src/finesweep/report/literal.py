"""Makes texts safe for the two languages of a chart: Plotly's own markup, and JSON inside HTML."""

from __future__ import annotations

import html
import json
import math
from typing import Any

from markupsafe import Markup

from finesweep.text import clean

_IN_A_SCRIPT = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}
"""Characters that could end a script element or begin a comment in it, as JSON writes them too."""


def literal(text: object, limit: int = 60) -> str:
    """Return a text of one line that Plotly shows as it is: no tags, no links, no entities, no TeX.

    Args:
        text: Anything; a value that is no text is converted with ``str``.
        limit: Maximum length in characters before escaping.
    """
    shown = clean(text, limit)
    return html.escape(f"\u200b{shown}" if shown.startswith("$") else shown)


def in_a_script(values: Any) -> Markup:
    """Return values as JSON that no text inside can end: for the content of a script element.

    Raises:
        ValueError: A number is not finite.
    """
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(_IN_A_SCRIPT))


def rounded(value: float) -> float:
    """Round a finite number to six significant digits, which is more than a screen shows and half as long."""
    return float(f"{value:.6g}") if math.isfinite(value) else value
