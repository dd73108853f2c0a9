"""Completions of prompts: rows of many requests, runs and adapters generated together, with a KV cache.

:class:`Generator` takes jobs and works through them in bounded slices. :mod:`rows` holds what is known of one
completion, :mod:`drawing` says how its tokens are chosen, :mod:`texts` how they become text, :mod:`batch` and
:mod:`cache` run the model over all of them at once.
"""

from processors.trainer.sampling.generator import Generator, complete
from processors.trainer.sampling.groups import Limits
from processors.trainer.sampling.jobs import Completion, Delta, Finished, SampleJob, Sampling
from processors.trainer.sampling.requests import SampleInput, frame

__all__ = [
    "Completion",
    "Delta",
    "Finished",
    "Generator",
    "Limits",
    "SampleInput",
    "SampleJob",
    "Sampling",
    "complete",
    "frame",
]
