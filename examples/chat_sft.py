"""Fine-tune a model on conversations, and see whether it helps on conversations that it has not seen.

Needs a server (TG_TINKER_BASE_URL, TG_TINKER_API_KEY), a catalogue model with a chat template, and
``pip install 'tensorguard[data]'``. Then::

    python examples/chat_sft.py MODEL
    python examples/chat_sft.py MODEL --data my-conversations.jsonl --epochs 1 --rows 16 --max-length 2048
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tg_tinker import LoRAConfig, OptimizerConfig, SamplingConfig, ServiceClient, TrainingClient, TrainingConfig
from tg_tinker.data import IGNORED, Collator, Stream, batches, chat_examples, read_jsonl, shuffled, split, track
from tg_tinker.data.collate import TokenBatch
from tg_tinker.schedules import cosine

DATA = Path(__file__).parent / "data" / "chat.jsonl"
QUESTION = [{"role": "user", "content": "What is a brook?"}]

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", help="a name of the server's catalogue")
parser.add_argument("--data", type=Path, default=DATA, help='JSON Lines of {"messages": [{"role", "content"}, …]}')
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--rows", type=int, default=4, help="conversations in a batch")
parser.add_argument("--max-length", type=int, default=512, help="tokens of a conversation at most")
parser.add_argument("--learning-rate", type=float, default=5e-3)
parser.add_argument("--seed", type=int, default=1)


def mean_loss(run: TrainingClient, validation: Stream[TokenBatch]) -> float:
    """The loss per token to be learnt, over all batches."""
    total, tokens = 0.0, 0
    for batch in validation:
        learnt = sum(label != IGNORED for row in batch["labels"] for label in row[1:])
        total += run.forward(batch).result().loss * learnt
        tokens += learnt
    return total / tokens


def main(arguments: list[str] | None = None) -> None:
    """Train, evaluate, save, sample."""
    asked = parser.parse_args(arguments)
    with ServiceClient() as service:
        run = service.create_training_client(
            TrainingConfig(
                model_ref=asked.model,
                lora_config=LoRAConfig(rank=16, alpha=32.0, target_modules=("all-linear",)),
                optimizer=OptimizerConfig(max_grad_norm=1.0),
                seed=asked.seed,
            )
        )
        tokenizer = run.get_tokenizer()
        max_length = min(asked.max_length, run.info.model.max_positions)

        # Files are read as they are needed, and always in the same way: nothing here depends on how often one starts.
        train, held_back = split(read_jsonl(asked.data), validation=0.2, seed=asked.seed)
        examples = chat_examples(train, tokenizer, max_length=max_length)
        collate = Collator(tokenizer.pad_id, multiple_of=8)
        validation = batches(chat_examples(held_back, tokenizer, max_length=max_length), asked.rows, collate)

        steps = asked.epochs * sum(1 for _ in batches(examples, asked.rows, collate))
        schedule = cosine(asked.learning_rate, steps, warmup_steps=steps // 10)
        before = mean_loss(run, validation)

        step = 0
        for epoch in range(asked.epochs):
            order = shuffled(examples, asked.seed, epoch=epoch)
            bar = track(batches(order, asked.rows, collate), f"Epoch {epoch + 1}", total=steps // asked.epochs)
            for batch in bar:
                forward = run.forward_backward(batch)  # accepted at once
                run.optim_step(learning_rate=schedule(step))  # runs behind it
                bar.note(loss=forward.result().loss)
                step += 1

        after = mean_loss(run, validation)
        saved = run.save_state("chat-sft").result()
        answer = run.sample(QUESTION, SamplingConfig(max_tokens=24, temperature=0.0)).result().samples[0]
        print(f"validation loss {before:.3f} before, {after:.3f} after {step} steps")
        print(f"{QUESTION[0]['content']} {answer.completion.strip()}")
        print(f"checkpoint {saved.artifact_id} of {run.training_client_id}")


if __name__ == "__main__":
    main()
