"""Says what models without a transformer score on a sweep's rows: the most frequent class, and TF-IDF with a line.

A sweep that does not beat them found nothing. They are fitted once, when the sweep's folder is made, and kept there as
JSON. Nothing here ranks; scikit-learn fits, and the task scores, as it does for trials. ``references.fitting`` imports
scikit-learn inside its functions.
"""

from finesweep.references.reference import Reference, best_reference, read_references, write_references

__all__ = [
    "Reference",
    "best_reference",
    "read_references",
    "write_references",
]
