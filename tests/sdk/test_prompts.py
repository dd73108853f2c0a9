from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tg_tinker import SamplingConfig, ServiceClient, TrainingConfig
from tg_tinker.errors import InvalidRequestError
from tg_tinker.prompts import plain_prompts

from tests.sdk import simulator as simulation
from tests.sdk.conftest import QUICK

CHAT = [{"role": "user", "content": "to be?"}]
RIGHT: dict[str, tuple[Any, dict[str, Any]]] = {
    "a text": ("a", {"prompts": ["a"]}),
    "texts": (("a", "b"), {"prompts": ["a", "b"]}),
    "a conversation": (CHAT, {"messages": [CHAT]}),
    "conversations": ([CHAT, CHAT * 3], {"messages": [CHAT, CHAT * 3]}),
    "token ids": ([1, 2], {"tokens": [[1, 2]]}),
    "rows of token ids": ([[1], (2, 3)], {"tokens": [[1], [2, 3]]}),
    "numpy's numbers": (list(np.arange(3)), {"tokens": [[0, 1, 2]]}),
}
WRONG: dict[str, Any] = {
    "nothing": [],
    "an empty text": "",
    "an empty text among others": ["a", ""],
    "texts and tokens": ["a", [1]],
    "an empty row": [[1], []],
    "fractions": [1.0, 2.0],
    "truth values": [True],
    "a negative token": [-1],
    "a message without a role": [{"content": "a"}],
    "a message with more than two fields": [{"role": "user", "content": "a", "name": "b"}],
    "a message of parts": [{"role": "user", "content": [{"type": "text"}]}],
    "bytes": [b"a"],
}


@pytest.mark.parametrize(("given", "wanted"), RIGHT.values(), ids=RIGHT)
def test_prompts_go_under_the_name_of_their_kind(given: Any, wanted: dict[str, Any]) -> None:
    assert plain_prompts(given) == wanted


@pytest.mark.parametrize("given", WRONG.values(), ids=WRONG)
def test_what_cannot_be_completed_is_refused_before_anything_is_sent(given: Any) -> None:
    with pytest.raises(InvalidRequestError):
        plain_prompts(given)


def test_conversations_and_tokens_are_sampled_as_texts_are(simulator: simulation.Simulator) -> None:
    client = ServiceClient(simulator.url, simulation.API_KEY, retry=QUICK)
    training = client.create_training_client(TrainingConfig(model_ref="small"))
    config = SamplingConfig(n=2, logprobs=True, stop=("\n",), stop_tokens=(3,), top_k=4, min_p=0.1)
    found = training.sample([CHAT], config).result(timeout=5)
    assert [(each.prompt_index, each.completion_index, each.prompt) for each in found.samples] == [
        (0, 0, None),
        (0, 1, None),
    ]
    assert found.samples[0].logprobs == (-1.0, -1.0, -1.0)
    assert training.sample([[1, 2], [3]]).result(timeout=5).samples[1].completion == "1"
