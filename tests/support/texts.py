"""What a trainer hands over for one sample, as the doors read it."""

from __future__ import annotations

SAMPLE = {
    "prompt_index": 0,
    "completion_index": 0,
    "prompt": "a",
    "completion": "b",
    "token_ids": [3],
    "logprobs": None,
    "tokens_generated": 1,
    "finish_reason": "stop",
}
TEXTS = {"samples": [SAMPLE], "salt": "00"}
