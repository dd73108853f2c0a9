"""The main job, in order: base model, fine-tuning, a crash, a package, a device, an audit.

Everything is done as a user does it: the server and the agent are processes of the ``tensorguard`` command, training
goes through the ``tg_tinker`` SDK, and the audit trusts nothing but the published trust root.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorguard.errors import UsageError
from tg_tinker import ServiceClient, TrainingClient

from api.demo import finetune, fleet
from api.demo.broker import ledger_of
from api.demo.errors import PartFailedError
from api.demo.processes import Server, make_base_model, tensorguard
from api.demo.report import Head, Replay, Report, SampleBeforeAfter, fall_percent
from api.demo.screen import Screen
from producers.settings import read

MARKER = "made-by-tensorguard-demo"
TENANT, MODEL = "demo", "small-code-model"
PROMPTS = ("Return the", "This module", "Raise")
STEPS_IN_THE_CRASH = 3


@dataclass(frozen=True)
class Scale:
    """How much is trained: of the base model, of the adapter, and of that before the server is killed."""

    base_steps: int = 300
    steps: int = 80
    steps_before_crash: int = 55


@dataclass(frozen=True)
class Places:
    """The folder of the demo and what lies in it."""

    root: Path

    @property
    def data(self) -> Path:
        """The server's data directory."""
        return self.root / "data"

    @property
    def base_model(self) -> Path:
        """The base model that was made."""
        return self.root / "base-model"

    @property
    def device(self) -> Path:
        """The device's identity."""
        return self.root / "device"

    @property
    def export(self) -> Path:
        """The exported ledger."""
        return self.root / "ledger-export"

    @property
    def broker(self) -> Path:
        """The data and the log of its Kafka broker, where it starts one."""
        return self.root / "kafka"

    @property
    def log(self) -> Path:
        """What the processes say."""
        return self.root / "demo.log"

    def file(self, name: str) -> Path:
        """A file that is handed from one part to another."""
        return self.root / name


@dataclass(frozen=True)
class Outcome:
    """What fine-tuning brought."""

    artifact_id: str
    before: float
    after: float
    replay: Replay
    samples: Sequence[SampleBeforeAfter]


def run(root: Path, text: Path | None, screen: Screen, scale: Scale | None = None, *, kafka: bool = False) -> Report:
    """The whole demo; what it leaves lies below ``root``. With ``kafka`` its ledger is on Kafka.

    Raises:
        DemoError: a part failed.
        UsageError: ``root`` holds something else.
    """
    places = Places(root.resolve())
    _clear(places.root)
    with ledger_of(places.data, places.broker, screen, kafka=kafka):
        return _main_job(places, text, screen, scale or Scale())


def _main_job(places: Places, text: Path | None, screen: Screen, scale: Scale) -> Report:
    with screen.part("Make a base model from real text"):
        base = _make_base_model(places, text, scale, screen)
    server = Server(places.data, places.log)
    try:
        with screen.part("Start the server"):
            server.start()
        with screen.part("Register it and issue a key"):
            tensorguard("models", "add", MODEL, places.base_model, "--data-dir", places.data)
            key = tensorguard("keys", "issue", "--data-dir", places.data, "--tenant", TENANT)["api_key"]
        with ServiceClient(server.url, key) as client:
            outcome = _fine_tune(client, server, places, scale, screen)
            with screen.part("Package the adapter for a device"):
                _enrol(places)
                package = _package(client, places, outcome.artifact_id)
            who = _who_did_what(client, fleet.Scene(server.url, key, places.data, places.log), places, screen)
        with screen.part("Open it on the device, in memory only"):
            opened = _open_on_device(server, places, key)
            screen.say(_one_line(opened["sample"]["prompt"] + opened["sample"]["completion"]))
    finally:
        with screen.part("Stop the server"):
            server.stop()
    with screen.part("Export the ledger and verify it offline"):
        verified = _audit(places)
    return _report(base, outcome, package, opened, verified, places, scale, screen, who)


def _clear(root: Path) -> None:
    if root.exists() and any(root.iterdir()) and not (root / MARKER).exists():
        raise UsageError(f"{root} is not empty, and not of an earlier demo.", next_step="Name another --data-dir.")
    if root.exists():
        shutil.rmtree(root)
    root.mkdir(parents=True)
    (root / MARKER).touch()


def _make_base_model(places: Places, text: Path | None, scale: Scale, screen: Screen) -> Any:
    with screen.progress("base model") as advance:
        base = make_base_model(places.base_model, text, scale.base_steps, places.log, advance)
    screen.say(f"held-out loss {base['held_out_loss']:.3f}, unigram model {base['unigram_loss']:.3f}")
    return base


def _fine_tune(client: ServiceClient, server: Server, places: Places, scale: Scale, screen: Screen) -> Outcome:
    data = finetune.docstring_dataset(places.base_model)
    run = client.create_training_client(finetune.training_config(MODEL))
    with screen.part("Measure and sample before"):
        before = finetune.held_out_loss(run, data)
        screen.say(f"held-out loss {before:.3f}")
        first = finetune.completions(run, PROMPTS)
    with screen.part("Fine-tune a LoRA adapter on docstrings"):
        _train(run, data, range(1, scale.steps_before_crash + 1), scale, screen)
    with screen.part("Kill the server with SIGKILL, start it again, go on"):
        _crash(run, data, server, scale, screen)
        after_crash = scale.steps_before_crash + STEPS_IN_THE_CRASH + 1
        _train(run, data, range(after_crash, scale.steps + 1), scale, screen)
        replay = _replay(client, run, screen)
        final = run.save_state("final").result(finetune.PATIENCE)
        screen.say(f"checkpoint {final.artifact_id}, {final.size_bytes} bytes, {final.encryption.algorithm}")
    with screen.part("Measure and sample after"):
        after = finetune.held_out_loss(run, data)
        screen.say(f"held-out loss {after:.3f}")
        second = finetune.completions(run, PROMPTS)
        samples = [SampleBeforeAfter(*each) for each in zip(PROMPTS, first, second, strict=True)]
        _show_samples(samples, screen)
        run.close()
    return Outcome(final.artifact_id, before, after, replay, samples)


def _train(run: TrainingClient, data: finetune.Dataset, part: range, scale: Scale, screen: Screen) -> None:
    with screen.progress("LoRA") as advance:
        finetune.train(run, data, part, scale.steps, lambda step, loss: advance(step, scale.steps, loss))


def _crash(run: TrainingClient, data: finetune.Dataset, server: Server, scale: Scale, screen: Screen) -> None:
    """Kill the server in the middle of steps; every step that it had accepted still comes to its result."""
    first = scale.steps_before_crash + 1
    doomed = range(first, first + STEPS_IN_THE_CRASH)
    pairs = [finetune.send_step(run, data, step, scale.steps) for step in doomed]
    pairs[0][1].result(finetune.PATIENCE)
    server.kill()
    screen.say("killed; starting again")
    server.start()
    steps = [optim.result(finetune.PATIENCE).step for _, optim in pairs]
    if steps != list(doomed):
        raise PartFailedError(f"After the crash the steps are {steps}, not {list(doomed)}.")


def _replay(client: ServiceClient, run: TrainingClient, screen: Screen) -> Replay:
    """What the ledger says of how the run came back."""
    stream = f"run/{run.training_client_id}"
    found = list(client.get_audit_logs(stream=stream, event="RunReplayed"))
    if not found:
        raise PartFailedError("The run came back without a replay.")
    data = found[-1].data
    replay = Replay(data["steps"], data["identical"], data["differing_step"], data["plan"])
    screen.say(f"{replay.steps} steps were computed again, {'bit for bit' if replay.identical else 'but differently'}")
    return replay


def _show_samples(samples: Sequence[SampleBeforeAfter], screen: Screen) -> None:
    for sample in samples:
        screen.say(f"before  {sample.prompt}{_one_line(sample.before)}")
        screen.say(f"after   {sample.prompt}{_one_line(sample.after)}")


def _one_line(text: str) -> str:
    return " ".join(text.split("\n"))


def _who_did_what(client: ServiceClient, scene: fleet.Scene, places: Places, screen: Screen) -> fleet.WhoDidWhat | None:
    """Where the server has several processes of a kind: that they work together."""
    if read(places.data).settings.embedded:
        return None
    with screen.part("See which process did what"):
        found = fleet.see(scene, client, finetune.docstring_dataset(places.base_model), MODEL)
        fleet.show(found, screen)
        return found


def _enrol(places: Places) -> None:
    keys = tensorguard("device", "keygen", "--identity", places.device)
    public = places.file("device-public.json")
    public.write_text(json.dumps(keys))
    tensorguard(
        "devices",
        "enrol",
        "--data-dir",
        places.data,
        "--tenant",
        TENANT,
        "--name",
        "demo-device",
        "--public-keys",
        public,
    )
    places.file("device-key-id").write_text(keys["key_id"])


def _package(client: ServiceClient, places: Places, artifact_id: str) -> int:
    """Make and fetch the package with its receipt; its size in bytes."""
    recipient = places.file("device-key-id").read_text()
    asked = client.create_package(artifact_id, [recipient], release_counter=1)
    package = client.wait_for_package(asked.package_id, finetune.PATIENCE)
    if package.status != "signed":
        raise PartFailedError(f"The package was not made: {package.error}.")
    client.download_receipt(package.package_id, places.file("adapter.tgsp.tlog-proof"))
    client.download_record(package.package_id, places.file("adapter.tgsp.record"))
    return client.download_package(package.package_id, places.file("adapter.tgsp")).stat().st_size


def _open_on_device(server: Server, places: Places, key: str) -> Any:
    root = places.file("trust-root.json")
    root.write_bytes(server.trust_root())
    arguments: dict[str, str | Path] = {
        "--package": places.file("adapter.tgsp"),
        "--receipt": places.file("adapter.tgsp.tlog-proof"),
        "--identity": places.device,
        "--trust-root": root,
        "--model": places.base_model,
        "--prompt": PROMPTS[0],
        "--max-tokens": "24",
        "--report": server.url,
    }
    words = [word for pair in arguments.items() for word in pair]
    return tensorguard("agent", "--once", *words, environment={"TG_TINKER_API_KEY": key})


def _audit(places: Places) -> Any:
    tensorguard("ledger", "export", "--data-dir", places.data, "--out", places.export)
    root = places.file("trust-root.json")
    verified = tensorguard("audit", "verify", places.export, "--decisions", "--require-signed", "--trust-root", root)
    proof, record = places.file("adapter.tgsp.tlog-proof"), places.file("adapter.tgsp.record")
    receipt = tensorguard("audit", "receipt", proof, "--record", record, "--trust-root", root)
    if not verified["verified"] or receipt.get("event") != "PackageSigned":
        raise PartFailedError("The ledger or the receipt does not verify.")
    return verified


def _report(
    base: Any,
    outcome: Outcome,
    package: int,
    opened: Any,
    verified: Any,
    places: Places,
    scale: Scale,
    screen: Screen,
    who: fleet.WhoDidWhat | None,
) -> Report:
    heads = [Head(each["chain"], each["records"], each["signed"], each["root"]) for each in verified["chains"]]
    return Report(
        base_held_out_loss=base["held_out_loss"],
        base_unigram_loss=base["unigram_loss"],
        base_steps=base["steps"],
        held_out_loss_before=outcome.before,
        held_out_loss_after=outcome.after,
        fall_percent=fall_percent(outcome.before, outcome.after),
        steps=scale.steps,
        replay=outcome.replay,
        package_bytes=package,
        device_sample=opened["sample"]["prompt"] + opened["sample"]["completion"],
        samples=outcome.samples,
        ledger_bytes=sum(file.stat().st_size for file in places.export.rglob("records") if file.is_file()),
        ledger_records=sum(head.records for head in heads),
        heads=heads,
        seconds=dict(screen.seconds),
        who_did_what=who,
    )
