"""From files to batches, on the machine where the data is.

A file is read as a :class:`Stream` of records, never whole; records become examples by the model's tokenizer, examples
become batches::

    records = read_jsonl("train.jsonl")
    train, validation = split(records, validation=0.1)
    examples = chat_examples(train, tokenizer, max_length=512)
    for batch in track(batches(shuffled(examples, seed=1), rows=8, collate=Collator(tokenizer.pad_id))):
        run.forward_backward(batch)

The same files, seeds and arguments give the same batches in the same order, on every machine.
"""

from __future__ import annotations

from tg_tinker.data.collate import Collator, batches
from tg_tinker.data.examples import IGNORED, Example, chat_examples, pair_examples, text_examples
from tg_tinker.data.order import shuffled, split
from tg_tinker.data.packing import packed
from tg_tinker.data.progress import track
from tg_tinker.data.readers import Record, read_jsonl, read_parquet, read_text, records
from tg_tinker.data.stream import Stream

__all__ = [
    "IGNORED",
    "Collator",
    "Example",
    "Record",
    "Stream",
    "batches",
    "chat_examples",
    "packed",
    "pair_examples",
    "read_jsonl",
    "read_parquet",
    "read_text",
    "records",
    "shuffled",
    "split",
    "text_examples",
    "track",
]
