"""The primitives as commands. Each waits for its result unless ``--no-wait`` is given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tg_tinker.cli.session import AsJson, NoWait, Run, Timeout, finish, read_json, settings, training
from tg_tinker.types import SamplingConfig


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command("forward-backward")(forward_backward)
    app.command("forward")(forward)
    app.command("optim-step")(optim_step)
    app.command("sample")(sample)
    app.command("save-state")(save_state)
    app.command("load-state")(load_state)


def forward_backward(
    context: typer.Context,
    run: Run,
    batch: Annotated[Path, typer.Argument(help="JSON file with input_ids, attention_mask and labels; - is stdin.")],
    *,
    timeout: Timeout = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Compute a batch's loss and accumulate its gradient."""
    rows = read_json(batch)
    with training(context, run) as client:
        finish(client.forward_backward(rows), timeout, no_wait=no_wait, as_json=as_json)


def forward(
    context: typer.Context,
    run: Run,
    batch: Annotated[Path, typer.Argument(help="JSON file as for forward-backward; - is stdin.")],
    *,
    timeout: Timeout = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate a batch: its loss and each token's log-probability."""
    rows = read_json(batch)
    with training(context, run) as client:
        finish(client.forward(rows), timeout, no_wait=no_wait, as_json=as_json)


def optim_step(
    context: typer.Context,
    run: Run,
    *,
    learning_rate: Annotated[float | None, typer.Option(help="For this step; without it, the run's own.")] = None,
    max_grad_norm: Annotated[
        float | None, typer.Option(help="Clip the gradient to it; without it, the run's own.")
    ] = None,
    timeout: Timeout = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Apply the accumulated gradient."""
    with training(context, run) as client:
        finish(client.optim_step(learning_rate, max_grad_norm), timeout, no_wait=no_wait, as_json=as_json)


def sample(
    context: typer.Context,
    run: Run,
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="Texts to complete.")],
    *,
    max_tokens: Annotated[int, typer.Option(min=1)] = 64,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token.")] = 1.0,
    top_p: Annotated[float, typer.Option(min=0, max=1)] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="Keep so many of the likeliest tokens; 0 keeps all.")] = 0,
    min_p: Annotated[float, typer.Option(min=0, max=1, help="Keep tokens with this share of the best's chance.")] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(min=0, help="Above 1 weakens what was said before.")] = 1.0,
    completions: Annotated[int, typer.Option("--completions", "-n", min=1, help="Completions of each prompt.")] = 1,
    stop: Annotated[list[str] | None, typer.Option(help="A text that ends a completion; may be repeated.")] = None,
    logprobs: Annotated[bool, typer.Option(help="Each token's log-probability too.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Makes the draw repeatable.")] = None,
    timeout: Timeout = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Complete prompts with the run's present adapter."""
    with settings("sampling configuration"):
        config = SamplingConfig(
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            n=completions,
            stop=tuple(stop or ()),
            logprobs=logprobs,
            seed=seed,
        )
    with training(context, run) as client:
        finish(client.sample(prompts, config), timeout, no_wait=no_wait, as_json=as_json)


def save_state(
    context: typer.Context,
    run: Run,
    name: Annotated[str, typer.Argument(help="Name of the checkpoint.")],
    *,
    include_optimizer: Annotated[bool, typer.Option(help="Needed to go on exactly as if nothing had happened.")] = True,
    timeout: Timeout = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Save an encrypted, signed checkpoint."""
    with training(context, run) as client:
        handle = client.save_state(name, include_optimizer=include_optimizer)
        finish(handle, timeout, no_wait=no_wait, as_json=as_json)


def load_state(
    context: typer.Context,
    run: Run,
    artifact_id: Annotated[str, typer.Argument(help="The checkpoint, as save-state printed it.")],
    *,
    include_optimizer: Annotated[bool, typer.Option(help="Without it the optimiser starts anew.")] = True,
    timeout: Timeout = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Replace the run's state by a checkpoint's."""
    with training(context, run) as client:
        handle = client.load_state(artifact_id, include_optimizer=include_optimizer)
        finish(handle, timeout, no_wait=no_wait, as_json=as_json)
