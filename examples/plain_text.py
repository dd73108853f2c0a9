"""Go on with a model's pre-training on plain text, in rows of one length.

Needs a server (TG_TINKER_BASE_URL, TG_TINKER_API_KEY), a catalogue model and
``pip install 'tensorguard[data]'``. Then::

    python examples/plain_text.py MODEL
    python examples/plain_text.py MODEL book.txt another.txt --rows 16 --length 1024
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tg_tinker import LoRAConfig, SamplingConfig, ServiceClient, TrainingConfig
from tg_tinker.data import Collator, batches, packed, read_text, shuffled, text_examples, track
from tg_tinker.schedules import linear

DATA = Path(__file__).parent / "data" / "brook.txt"

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", help="a name of the server's catalogue")
parser.add_argument("files", type=Path, nargs="*", default=[DATA], help="UTF-8 text, paragraphs between blank lines")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--rows", type=int, default=4, help="rows in a batch")
parser.add_argument("--length", type=int, default=256, help="tokens of a row at most")
parser.add_argument("--learning-rate", type=float, default=5e-3)
parser.add_argument("--seed", type=int, default=1)


def main(arguments: list[str] | None = None) -> None:
    """Train, save, sample."""
    asked = parser.parse_args(arguments)
    with ServiceClient() as service:
        run = service.create_training_client(
            TrainingConfig(
                model_ref=asked.model, lora_config=LoRAConfig(target_modules=("all-linear",)), seed=asked.seed
            )
        )
        tokenizer = run.get_tokenizer()
        length = min(asked.length, run.info.model.max_positions)
        collate = Collator(tokenizer.pad_id)

        # Long paragraphs are cut into rows, short ones share a row: little of a batch is filling.
        examples = packed(text_examples(read_text(*asked.files), tokenizer, max_length=length), length)
        steps = asked.epochs * sum(1 for _ in batches(examples, asked.rows, collate))
        schedule = linear(asked.learning_rate, steps, warmup_steps=steps // 10)

        losses: list[float] = []
        for epoch in range(asked.epochs):
            order = shuffled(examples, asked.seed, epoch=epoch)
            bar = track(batches(order, asked.rows, collate), f"Epoch {epoch + 1}", total=steps // asked.epochs)
            for batch in bar:
                forward = run.forward_backward(batch)
                run.optim_step(learning_rate=schedule(len(losses)))
                losses.append(forward.result().loss)
                bar.note(loss=losses[-1])

        saved = run.save_state("plain-text").result()
        sampled = run.sample("The brook", SamplingConfig(max_tokens=24, temperature=0.7, seed=asked.seed)).result()
        print(f"loss {losses[0]:.3f} in the first step, {losses[-1]:.3f} in the last of {len(losses)}")
        print(f"The brook{sampled.samples[0].completion}")
        print(f"checkpoint {saved.artifact_id} of {run.training_client_id}")


if __name__ == "__main__":
    main()
