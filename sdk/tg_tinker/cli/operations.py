"""The primitives as commands. Each waits for its result unless ``--no-wait`` is given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tg_tinker.cli.session import AsJson, NoWait, Run, Timeout, finish, read_json, training


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command("forward-backward")(forward_backward)
    app.command("forward")(forward)
    app.command("optim-step")(optim_step)
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
