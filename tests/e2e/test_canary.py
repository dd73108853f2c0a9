"""After a session, neither a text of the batch nor a plaintext weight lies in the data directory or the log."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from tg_tinker import LoRAConfig, OptimizerConfig, SamplingConfig, ServiceClient, TrainingConfig

from processors.keys.master import unwrap_kek
from producers.installation import Installation
from tests.support.artifacts import open_checkpoint
from tests.support.server import LiveServer, tensorguard, tensorguard_json
from tests.support.tiny_model import build_tiny_model

PASSPHRASE = "a wren in the bell tower"
CANARY = "the heron counts its own feathers at midnight"
TOKENS = [11, 97, 23, 89, 31, 83, 41, 79, 43, 73, 47, 71]


def _forms_of_tokens(tokens: list[int]) -> list[bytes]:
    run = tokens[:8]
    return [
        json.dumps(run)[1:-1].encode(),
        json.dumps(run, separators=(",", ":"))[1:-1].encode(),
        struct.pack(f"<{len(run)}q", *run),
        struct.pack(f"<{len(run)}i", *run),
    ]


def _files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and "models" not in path.relative_to(root).parts]


def test_neither_batch_nor_prompt_nor_weight_nor_key_is_found_after_a_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = tmp_path / "data"
    monkeypatch.setenv("TG_KEY_MASTER", PASSPHRASE)
    tensorguard("models", "add", "tiny", build_tiny_model(tmp_path / "model"), "--data-dir", data_dir)
    key = tensorguard_json("keys", "issue", "--data-dir", data_dir, "--tenant", "acme")["api_key"]
    server = LiveServer(data_dir, tmp_path / "server.log", {"TG_CHECKPOINT_EVERY_STEPS": "1"}).start()
    try:
        with ServiceClient(base_url=server.url, api_key=key) as client:
            training = client.create_training_client(
                TrainingConfig(
                    model_ref="tiny",
                    lora_config=LoRAConfig(rank=4, alpha=8, dropout=0.0, target_modules=["q_proj", "v_proj"]),
                    optimizer=OptimizerConfig(learning_rate=1e-3),
                    seed=7,
                    metadata={"note": CANARY},
                )
            )
            batch = {"input_ids": [TOKENS], "attention_mask": [[1] * len(TOKENS)], "labels": [TOKENS]}
            for _ in range(3):
                training.forward_backward(batch)
                training.optim_step().result(timeout=60)
            samples = training.sample([CANARY], SamplingConfig(max_tokens=8, temperature=0.0)).result(timeout=60)
            saved = training.save_state("kept").result(timeout=60)
            weights = _weights(data_dir, saved.artifact_id)
    finally:
        server.stop()
    needles = {
        "prompt": [CANARY.encode()],
        "tokens": _forms_of_tokens(TOKENS),
        "weight": weights,
        "key": [key.encode()],
        "passphrase": [PASSPHRASE.encode()],
        "key-encryption key": [_kek(data_dir), _kek(data_dir).hex().encode()],
    }
    if len(samples.samples[0].completion) >= 8:
        needles["completion"] = [samples.samples[0].completion.encode()]
    haystacks = [*_files(data_dir), tmp_path / "server.log"]
    assert any(path.name == "payload.enc" for path in haystacks), "the scan must have met a checkpoint"
    for path in haystacks:
        content = path.read_bytes()
        for what, patterns in needles.items():
            assert not any(pattern in content for pattern in patterns), f"a {what} lies in {path.relative_to(tmp_path)}"


def _kek(data_dir: Path) -> bytes:
    return unwrap_kek(PASSPHRASE.encode(), (data_dir / "keys" / "kek").read_bytes())


def _weights(data_dir: Path, artifact_id: str) -> list[bytes]:
    """Slices of the adapter's raw tensors, as only the holder of the tenant's key can see them."""
    plaintext = open_checkpoint(Installation.open(data_dir), "acme", artifact_id)
    start = 8 + int.from_bytes(plaintext[:8], "little")
    body = bytes(plaintext[start:])
    slices = [body[i : i + 64] for i in range(0, len(body) - 64, max(64, len(body) // 40))]
    kept = [each for each in slices if len(set(each)) > 16]
    assert kept, "the canary weights must be real numbers"
    return kept
