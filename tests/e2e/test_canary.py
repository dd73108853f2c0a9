"""During a session and after it, nothing private lies in the data directory, in the log or in a temporary file."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from tg_tinker import LoRAConfig, OptimizerConfig, SamplingConfig, ServiceClient, TrainingConfig, errors

from api.keys import SCOPES
from producers.installation import Installation
from tests.support.artifacts import open_checkpoint
from tests.support.catalogue import add_model
from tests.support.server import LiveServer, tensorguard_json
from tests.support.tiny_model import build_tiny_model

if TYPE_CHECKING:
    from tg_tinker import TrainingClient

NOTE = "the heron counts its own feathers at midnight"
PROMPT = "seven otters hold a council under the bridge"
CHAT = "my aunt hides her letters behind the third brick"
REFUSED = "the lighthouse keeper never owned a lamp"
STOP = "until the copper rooster sings"
MASTER = "a passphrase that only the operator has"
TOKENS = [11, 97, 23, 89, 31, 83, 41, 79, 43, 73, 47, 71]
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception(m.content) }}{% endif %}"
    "{{ m.content }}{% endfor %}"
)
GREEDY = SamplingConfig(max_tokens=24, temperature=0.0, stop=(STOP,), logprobs=True)


@dataclass
class Scene:
    """A server with a tiny model, everything that it leaves anywhere, and what must not be in that."""

    root: Path
    data_dir: Path
    temporary: Path
    server: LiveServer
    key: str
    needles: dict[str, list[bytes]] = field(default_factory=dict)

    def files(self) -> list[Path]:
        """What was written: to the data directory but for the catalogue, to the log, and to temporary files."""
        found = [*self.data_dir.rglob("*"), *self.temporary.rglob("*"), self.server.log_path]
        models = self.data_dir / "models"
        return [path for path in found if path.is_file() and not path.is_relative_to(models)]

    def stores(self) -> set[str]:
        """Kinds of sealed things that lie there now."""
        parts = [path.relative_to(self.data_dir).parts for path in self.data_dir.rglob("*") if path.is_file()]
        blobs = {part[2] for part in parts if part[0] == "blobs" and part[2] in ("inputs", "results")}
        named = {part[-1] for part in parts if part[-1] == "payload.enc"}
        return blobs | named | {part[0] for part in parts if part[0] == "exports"}

    def scan(self) -> None:
        """Look for the needles in every file."""
        for path in self.files():
            self.look(path.relative_to(self.root).as_posix(), path.read_bytes())

    def http(self) -> httpx.Client:
        """A client with the tenant's key."""
        return httpx.Client(base_url=self.server.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=60)

    def look(self, where: str, content: bytes) -> None:
        """Look for the needles in one place."""
        for what, patterns in self.needles.items():
            assert not any(pattern in content for pattern in patterns), f"a {what} lies in {where}"


def _texts(*texts: str) -> list[bytes]:
    return [text.encode() for text in texts]


def _forms_of_tokens(tokens: list[int]) -> list[bytes]:
    run = tokens[:8]
    return [
        json.dumps(run)[1:-1].encode(),
        json.dumps(run, separators=(",", ":"))[1:-1].encode(),
        struct.pack(f"<{len(run)}q", *run),
        struct.pack(f"<{len(run)}i", *run),
    ]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv("TG_KEY_MASTER", MASTER)
    data_dir, temporary = tmp_path / "data", tmp_path / "tmp"
    temporary.mkdir()
    model = build_tiny_model(tmp_path / "model", chat_template=TEMPLATE)
    add_model(data_dir, "tiny", model)
    scopes = [word for scope in SCOPES for word in ("--scope", scope)]
    key = tensorguard_json("keys", "issue", "--data-dir", data_dir, "--tenant", "acme", *scopes)["api_key"]
    given = {"TG_CHECKPOINT_EVERY_SECONDS": "1000", "TMPDIR": str(temporary), "TG_LOG_LEVEL": "debug"}
    server = LiveServer(data_dir, tmp_path / "server.log", given)
    return Scene(tmp_path, data_dir, temporary, server, key)


def test_nothing_private_is_found_during_a_session_or_after_it(scene: Scene) -> None:
    scene.server.start()
    try:
        with ServiceClient(base_url=scene.server.url, api_key=scene.key) as client:
            training = client.create_training_client(
                TrainingConfig(
                    model_ref="tiny",
                    lora_config=LoRAConfig(rank=4, alpha=8, dropout=0.0, target_modules=["q_proj", "v_proj"]),
                    optimizer=OptimizerConfig(learning_rate=1e-3),
                    seed=7,
                    metadata={"note": NOTE},
                )
            )
            artifact = _train(training, scene.server)
            completions = _sample(training)
            _sample_in_vain(training)
            _export(scene, artifact)
        scene.needles = {
            "text": _texts(NOTE, PROMPT, CHAT, REFUSED, STOP),
            "tokens": _forms_of_tokens(TOKENS),
            "completion": _texts(*(text for text in completions if len(text) >= 8)),
            "weight": _weights(scene, artifact),
            "secret": _texts(scene.key, MASTER),
        }
        assert all(scene.needles.values())
        assert scene.stores() == {"inputs", "results", "payload.enc", "exports"}, "the scan must meet them"
        scene.scan()
        with scene.http() as http:
            scene.look("/metrics", http.get("/metrics").raise_for_status().content)
    finally:
        scene.server.stop()
    assert "run_replayed" in scene.server.log()
    assert "chat_template_refused" in scene.server.log()
    scene.scan()


def _train(training: TrainingClient, server: LiveServer) -> str:
    """Steps, some of which a second trainer does again; a checkpoint, and a batch that none covers."""
    batch = {"input_ids": [TOKENS], "attention_mask": [[1] * len(TOKENS)], "labels": [TOKENS]}
    for number in range(3):
        training.forward_backward(batch)
        training.optim_step().result(timeout=60)
        if number == 1:
            server.kill_child("processors.trainer")
    saved = training.save_state("kept").result(timeout=60)
    training.forward_backward(batch).result(timeout=60)
    training.forward(batch).result(timeout=60)
    return saved.artifact_id


def _sample(training: TrainingClient) -> list[str]:
    """A prompt, and a conversation that is listened to; their completions."""
    plain = training.sample([PROMPT], GREEDY).result(timeout=60)
    chat = training.sample([[{"role": "user", "content": CHAT}]], GREEDY)
    heard = "".join(delta.text for delta in chat.stream())
    texts = [sample.completion for result in (plain, chat.result(timeout=60)) for sample in result.samples]
    assert heard == texts[1]
    return texts


def _sample_in_vain(training: TrainingClient) -> None:
    """A conversation that the template refuses, quoting it."""
    with pytest.raises(errors.TGTinkerError) as refused:
        training.sample([[{"role": "system", "content": REFUSED}]], GREEDY).result(timeout=60)
    assert REFUSED not in str(refused.value)


def _export(scene: Scene, artifact: str) -> None:
    """An export that nobody fetches: it stays until its time is over."""
    with scene.http() as http:
        asked = http.post(f"/v1/artifacts/{artifact}/exports", json={"format": "peft"}).raise_for_status().json()
        made = http.get(f"/v1/exports/{asked['export_id']}", params={"wait": 30}).raise_for_status().json()
    assert made["status"] == "ready"


def _weights(scene: Scene, artifact_id: str) -> list[bytes]:
    """Slices of the adapter's raw tensors, as only the holder of the tenant's key can see them."""
    plaintext = open_checkpoint(Installation.open(scene.data_dir), "acme", artifact_id)
    start = 8 + int.from_bytes(plaintext[:8], "little")
    body = bytes(plaintext[start:])
    slices = [body[i : i + 64] for i in range(0, len(body) - 64, max(64, len(body) // 40))]
    return [each for each in slices if len(set(each)) > 16]
