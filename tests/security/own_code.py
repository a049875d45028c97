"""A tiny model that comes with code of its own: a BERT whose classifier is written down in the model's folder."""

from __future__ import annotations

import json
from pathlib import Path

import tiny

CONFIG = """\
from pathlib import Path

from transformers import BertConfig

Path({witness!r}).touch()


class OwnConfig(BertConfig):
    model_type = "own_bert"
"""

MODEL = """\
from transformers import BertForSequenceClassification

from .configuration_own import OwnConfig
from .layers_own import doubled


class OwnClassifier(BertForSequenceClassification):
    config_class = OwnConfig

    def forward(self, input_ids=None, attention_mask=None, labels=None, **kwargs):
        return doubled(super().forward(input_ids, attention_mask, labels=labels, **kwargs))
"""

LAYERS = """\
def doubled(output):
    output.logits = 2 * output.logits
    return output
"""


def own_code_model(folder: Path, witness: Path) -> Path:
    """Save the model.

    Args:
        folder: Where it goes.
        witness: A file that the code makes when it is run.
    """
    tiny.tiny_model(folder, hidden=16, positions=64)
    config = json.loads((folder / "config.json").read_text())
    classes = {
        "AutoConfig": "configuration_own.OwnConfig",
        "AutoModelForSequenceClassification": "modeling_own.OwnClassifier",
    }
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "own_bert", "auto_map": classes}))
    (folder / "configuration_own.py").write_text(CONFIG.format(witness=str(witness)))
    (folder / "modeling_own.py").write_text(MODEL)
    (folder / "layers_own.py").write_text(LAYERS)
    return folder
