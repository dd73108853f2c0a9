"""A device, a real adapter on a real tiny model, and a package of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, get_peft_model
from tensorguard.ledger import trust
from tensorguard.model_manifest import digest_files, manifest_digest, tokenizer_digest
from transformers import AutoModelForCausalLM, AutoTokenizer

from edge.agent import Agent, Task
from edge.fetch import Fetcher
from edge.identity import Identity
from edge.opening import check
from edge.releases import Releases
from producers.clock import system_clock
from tests.support.packages import MODEL, Shop

if TYPE_CHECKING:
    from pathlib import Path

    from edge.agent import Outcome
    from edge.opening import Checked

PROMPT, TOKENS = "To be, or not", 12


class Device:
    """A shop with one signed package for one device."""

    def __init__(self, model_folder: Path, folder: Path) -> None:
        self.model_folder = model_folder
        self.folder = folder
        found = digest_files(model_folder)
        digests = {"manifest_digest": manifest_digest(found), "tokenizer_digest": tokenizer_digest(found)}
        self.shop = Shop(folder, replace(MODEL, **digests))
        self.checkpoint = self.shop.save(self.tensors)
        self.package_id = self.pack()
        self.package = self.shop.file(self.package_id)
        self.receipt = folder / "receipt.tlog-proof"
        self.receipt.write_bytes(self.shop.receipt(self.package_id))
        self.root = trust.parse(self.shop.trust_root.read_bytes())

    def pack(self, **changes: Any) -> bytes:
        """One more package of the checkpoint."""
        order = self.shop.order(self.checkpoint, **changes)
        self.shop.pack()
        return order

    @cached_property
    def peft(self) -> Any:
        """The model with the adapter, put together by hand; B is not zero, so the adapter shows."""
        base = AutoModelForCausalLM.from_pretrained(self.model_folder, dtype=torch.float32)
        config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
        model = get_peft_model(base, config)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.normal_(0, 1, generator=generator)
        return model.eval()

    @property
    def tensors(self) -> dict[str, Any]:
        """The adapter as a checkpoint holds it."""
        return {
            f"adapter/{name.replace('.default.', '.')}": parameter.detach().numpy()
            for name, parameter in self.peft.named_parameters()
            if ".default." in name
        }

    def expected(self, *, adapter: bool = True) -> str:
        """The completion by hand."""
        tokenizer = AutoTokenizer.from_pretrained(self.model_folder)
        encoded = tokenizer(PROMPT, return_tensors="pt")
        arguments = {"max_new_tokens": TOKENS, "do_sample": False, "pad_token_id": 0}
        given = {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}
        if adapter:
            output = self.peft.generate(**given, **arguments)
        else:
            with self.peft.disable_adapter():
                output = self.peft.generate(**given, **arguments)
        return str(tokenizer.decode(output[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True))

    def identity_folder(self, name: str) -> Path:
        """A copy of the device's identity that remembers no release."""
        target = self.folder / f"identity-{name}"
        shutil.copytree(self.shop.device_folder, target, ignore=shutil.ignore_patterns("releases"))
        return target

    def check(self, **changes: Any) -> Checked:
        """All checks on the open package; the file stays open."""
        arguments = {
            "file": self.package.open("rb"),
            "receipt": self.receipt.read_bytes(),
            "root": self.root,
            "releases": Releases(self.folder / "nowhere"),
            "model": self.model_folder,
            "now": system_clock(),
        }
        return check(**{**arguments, **changes})

    def run(self, folder: Path, fetcher: Fetcher | None = None, **changes: Any) -> Outcome:
        """One run of the agent."""
        task = Task(str(self.package), str(self.receipt), self.model_folder, PROMPT, TOKENS)
        agent = Agent(folder, Identity.load(folder), self.root, fetcher or Fetcher(), system_clock)
        return agent.run(replace(task, **changes))
