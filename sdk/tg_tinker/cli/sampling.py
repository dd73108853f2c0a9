"""``tg-tinker sample`` and ``tg-tinker samplers``: completions of a run, of a checkpoint, of a bare model."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any

import typer
from tensorguard.errors import UsageError

from tg_tinker.cli.output import show, show_all
from tg_tinker.cli.session import AsJson, Limit, NoWait, Timeout, connect, finish, settings, training
from tg_tinker.futures import FutureHandle
from tg_tinker.sampling_client import SamplingClient
from tg_tinker.training_client import TrainingClient
from tg_tinker.types import SamplingConfig

samplers = typer.Typer(no_args_is_help=True, help="Models and checkpoints that are open for sampling.")

SamplerId = Annotated[str, typer.Argument(metavar="SAMPLER_ID", help="As `samplers create` printed it.")]
Opened = Callable[[typer.Context, str], AbstractContextManager[TrainingClient | SamplingClient]]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.add_typer(samplers, name="samplers")
    app.command("sample", help="Complete prompts with the run's present adapter.")(_sample_from(training))


@contextmanager
def sampling(context: typer.Context, sampler_id: str) -> Iterator[SamplingClient]:
    """A sampler of the server that the options or the environment name."""
    with connect(context) as client:
        yield client.get_sampling_client(sampler_id)


@samplers.command("create")
def create_sampler(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(help="A name of the catalogue: the model as it is.")] = None,
    *,
    artifact: Annotated[str | None, typer.Option(help="A checkpoint instead, as save-state printed it.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of samples that name none.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Open a model of the catalogue, or a checkpoint, for sampling."""
    if (model is None) == (artifact is None):
        raise UsageError("A sampler stands on a model or on a checkpoint.", next_step="Give MODEL or --artifact.")
    with connect(context) as client:
        show(client.create_sampling_client(model, artifact_id=artifact, seed=seed).info, as_json=as_json)


@samplers.command("get")
def get_sampler(context: typer.Context, sampler_id: SamplerId, *, as_json: AsJson = False) -> None:
    """A sampler as it stands."""
    with sampling(context, sampler_id) as client:
        show(client.info, as_json=as_json)


@samplers.command("list")
def list_samplers(context: typer.Context, *, limit: Limit = None, as_json: AsJson = False) -> None:
    """The tenant's samplers, newest first."""
    columns = ("sampler_id", "model_ref", "artifact_id", "status", "step", "created_at")
    with connect(context) as client:
        show_all(client.list_samplers(limit), columns, as_json=as_json)


@samplers.command("close")
def close_sampler(context: typer.Context, sampler_id: SamplerId, *, as_json: AsJson = False) -> None:
    """Take no more samples; accepted ones still finish."""
    with sampling(context, sampler_id) as client:
        show(client.close(), as_json=as_json)


def _sample_from(opened: Opened) -> Callable[..., None]:
    """The command that samples from what ``opened`` opens by its id: a run or a sampler."""

    def sample(
        context: typer.Context,
        source: Annotated[str, typer.Argument(metavar="ID", help="What to sample from, as `create` printed it.")],
        prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="Texts to complete.")],
        *,
        max_tokens: Annotated[int, typer.Option(min=1)] = 64,
        temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token.")] = 1.0,
        top_p: Annotated[float, typer.Option(min=0, max=1)] = 1.0,
        top_k: Annotated[int, typer.Option(min=0, help="Keep so many of the likeliest tokens; 0 keeps all.")] = 0,
        min_p: Annotated[
            float, typer.Option(min=0, max=1, help="Keep tokens with this share of the best's chance.")
        ] = 0.0,
        repetition_penalty: Annotated[float, typer.Option(min=0, help="Above 1 weakens what was said before.")] = 1.0,
        completions: Annotated[int, typer.Option("--completions", "-n", min=1, help="Completions of each prompt.")] = 1,
        stop: Annotated[list[str] | None, typer.Option(help="A text that ends a completion; may be repeated.")] = None,
        logprobs: Annotated[bool, typer.Option(help="Each token's log-probability too.")] = False,
        seed: Annotated[int | None, typer.Option(min=0, help="Makes the draw repeatable.")] = None,
        stream: Annotated[bool, typer.Option("--stream", help="Print texts as they grow.")] = False,
        timeout: Timeout = None,
        no_wait: NoWait = False,
        as_json: AsJson = False,
    ) -> None:
        if stream and (no_wait or timeout is not None):
            raise UsageError(
                "A stream is listened to until its end.", next_step="Leave out --stream, or --no-wait and --timeout."
            )
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
        with opened(context, source) as client:
            handle = client.sample(prompts, config)
            if not stream:
                finish(handle, timeout, no_wait=no_wait, as_json=as_json)
            elif as_json:
                _print_lines(handle)
            else:
                _print_texts(handle, single=len(prompts) * completions == 1)

    return sample


samplers.command("sample", help="Complete prompts.")(_sample_from(sampling))


def _print_lines(handle: FutureHandle[Any]) -> None:
    """What comes as one JSON object a line, the whole result last."""
    for delta in handle.stream():
        _say(json.dumps(delta.model_dump(mode="json"), ensure_ascii=False) + "\n")
    _say(json.dumps(handle.result().model_dump(mode="json"), ensure_ascii=False) + "\n")


def _print_texts(handle: FutureHandle[Any], *, single: bool) -> None:
    """A single text as it grows; of several each as soon as it is whole, since a terminal has one cursor."""
    texts: dict[tuple[int, int], str] = {}
    for delta in handle.stream():
        place = (delta.prompt_index, delta.completion_index)
        if single:
            _say(delta.text)
            continue
        texts[place] = texts.get(place, "") + delta.text
        if delta.finish_reason is not None:
            _say(f"prompt {place[0]}, completion {place[1]}:\n{texts.pop(place)}\n\n")
    if single:
        _say("\n")


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
