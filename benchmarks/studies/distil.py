"""Makes the small pretrained models of ``curves/``: what a sentence encoder knows, in 2 layers of width 64 or so.

    python -m benchmarks.studies.distil --teacher all-MiniLM-L6-v2 --texts sst2_train.csv sst2_test.csv --out small

Its word vectors are the teacher's main components, as many as it is wide; its pooled output then learns to predict the
teacher's embedding of each text, without labels. Only the tokens of these texts are kept, so name the validation texts
too if their tokens are needed. It takes a quarter of an hour on one core.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.nn.functional import normalize

EPOCHS, BATCH, LEARNING_RATE = 12, 32, 1e-3


def read_texts(files: Sequence[Path], column: str) -> list[str]:
    """Return the different texts of some CSVs, short ones first, so that batches need little padding."""
    found: set[str] = set()
    for file in files:
        with file.open(encoding="utf-8", newline="") as stream:
            found |= {row[column] for row in csv.DictReader(stream)}
    return sorted(found, key=lambda text: (len(text), text))


def encode(tokenizer: Any, texts: Sequence[str]) -> Any:
    """Return texts as one batch of at most 64 tokens."""
    return tokenizer(list(texts), padding=True, truncation=True, max_length=64, return_tensors="pt")


def embeddings(teacher: Any, batches: Sequence[Any]) -> list[torch.Tensor]:
    """Return the teacher's embeddings: the mean over the tokens of each text, of length one."""
    found = []
    with torch.no_grad():
        for batch in batches:
            mask = batch["attention_mask"].unsqueeze(-1).float()
            hidden = teacher(**batch).last_hidden_state
            found.append(normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1))
    return found


def student_of(teacher: Any, width: int, layers: int) -> Any:
    """Make the student, with the teacher's word vectors in fewer dimensions.

    Args:
        teacher: The teacher, at least as wide.
        width: The student's width, a multiple of 2.
        layers: Its number of layers.
    """
    config = transformers.BertConfig(
        vocab_size=teacher.config.vocab_size,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=64,
    )
    student = transformers.BertModel(config)
    vectors = teacher.embeddings.word_embeddings.weight.detach()
    vectors = vectors - vectors.mean(0)
    _, _, axes = torch.pca_lowrank(vectors, q=width, center=False)
    reduced = vectors @ axes
    student.embeddings.word_embeddings.weight.data.copy_(reduced / reduced.std() * 0.05)
    return student


def train(student: Any, batches: Sequence[Any], wanted: Sequence[torch.Tensor]) -> None:
    """Teach the student's pooled output to predict the embeddings."""
    head = torch.nn.Linear(student.config.hidden_size, wanted[0].shape[1])
    optimizer = torch.optim.AdamW([*student.parameters(), *head.parameters()], lr=LEARNING_RATE)
    total = EPOCHS * len(batches)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / total))
    for epoch in range(EPOCHS):
        losses = 0.0
        for number in torch.randperm(len(batches)).tolist():
            found = normalize(head(student(**batches[number]).pooler_output), dim=-1)
            loss = (1 - (found * wanted[number]).sum(-1)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            decay.step()
            losses += loss.item()
        print(f"epoch {epoch + 1}: {losses / len(batches):.4f} from the teacher")  # noqa: T201


def keep_tokens(student: Any, tokenizer: Any, texts: Sequence[str], folder: Path) -> None:
    """Write the student with those tokens only that occur in the texts."""
    used = set(tokenizer.all_special_ids)
    for text in texts:
        used |= set(tokenizer(text)["input_ids"])
    kept = sorted(used)
    vectors = student.embeddings.word_embeddings.weight.data[kept].clone()
    student.resize_token_embeddings(len(kept))
    student.embeddings.word_embeddings.weight.data.copy_(vectors)
    student.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _renumber(folder / "tokenizer.json", {old: new for new, old in enumerate(kept)})


def _renumber(file: Path, numbers: dict[int, int]) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    content["model"]["vocab"] = {token: numbers[old] for token, old in vocabulary.items() if old in numbers}
    for token in content["added_tokens"]:
        token["id"] = numbers[token["id"]]
    for special in content["post_processor"]["special_tokens"].values():
        special["ids"] = [numbers[old] for old in special["ids"]]
    file.write_text(json.dumps(content), encoding="utf-8")


def main() -> None:
    """Make it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--teacher", type=Path, required=True, help="folder of a BERT-like sentence encoder")
    parser.add_argument("--texts", type=Path, nargs="+", required=True, help="CSVs; labels are not read")
    parser.add_argument("--text", default="text", help="column with the text")
    parser.add_argument("--width", type=int, default=64, help="its width")
    parser.add_argument("--layers", type=int, default=2, help="its layers")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    asked = parser.parse_args()
    torch.manual_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(asked.teacher)
    teacher = transformers.AutoModel.from_pretrained(asked.teacher).eval()
    texts = read_texts(asked.texts, asked.text)
    batches = [encode(tokenizer, texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
    student = student_of(teacher, asked.width, asked.layers)
    train(student, batches, embeddings(teacher, batches))
    keep_tokens(student, tokenizer, texts, asked.out)


if __name__ == "__main__":
    main()
