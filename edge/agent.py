"""One run of the agent: from a package's address to a completion, and nothing left behind."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from edge.errors import ReportError
from edge.inference import Runner
from edge.opening import check, opened_weights
from edge.releases import Releases
from edge.reporting import opened_command, report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tensorguard.ledger.trust import TrustRoot
    from tensorguard.tgsp.manifest import PackageManifest
    from tensorguard.tgsp.package import Package

    from edge.fetch import Fetcher
    from edge.identity import Identity
    from edge.inference import Completion
    from edge.opening import Checked, Weights
ACCEPTED = "accepted"


@dataclass(frozen=True, slots=True)
class Task:
    """What the agent is asked to do; ``package`` and ``receipt`` are paths or addresses."""

    package: str
    receipt: str
    model: Path
    prompt: str
    max_tokens: int
    report_to: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done. ``reply`` is the ledger's answer to the report, None when none was asked for or none came."""

    manifest: PackageManifest
    package_id: bytes
    step: int
    ledger_seq: int
    memory_locked: bool
    completion: Completion
    reply: dict[str, Any] | None = None
    problem: ReportError | None = None

    @property
    def complete(self) -> bool:
        """Whether the report, if one was asked for, was accepted."""
        return self.problem is None and (self.reply is None or self.reply.get("outcome") == ACCEPTED)

    def to_dict(self) -> dict[str, Any]:
        """For programs."""
        manifest = self.manifest
        return {
            "package_id": self.package_id.hex(),
            "request_id": manifest.request_id,
            "tenant": manifest.tenant,
            "line": manifest.line,
            "release_counter": manifest.release_counter,
            "model": manifest.compatibility.model,
            "step": self.step,
            "ledger": {"chain": manifest.tenant, "seq": self.ledger_seq},
            "memory_locked": self.memory_locked,
            "sample": asdict(self.completion),
            "report": self.reply,
        }


class Agent:
    """A device with its identity, its trust root and its clock (microseconds since the epoch)."""

    def __init__(
        self, folder: Path, identity: Identity, root: TrustRoot, fetcher: Fetcher, clock: Callable[[], int]
    ) -> None:
        self._identity = identity
        self._releases = Releases(folder)
        self._root = root
        self._fetcher = fetcher
        self._clock = clock

    def run(self, task: Task) -> Outcome:
        """Check, open, sample, wipe, report.

        Raises:
            TensorGuardError: the first doubt, or what went wrong.
        """
        receipt = self._fetcher.small(task.receipt)
        with self._fetcher.opened(task.package) as file:
            checked = check(
                file,
                receipt=receipt,
                root=self._root,
                releases=self._releases,
                model=task.model,
                now=self._clock(),
            )
            with opened_weights(checked, self._identity) as weights:
                completion = self._sample(task, checked, weights)
                locked = weights.locked
            outcome = Outcome(
                manifest=checked.package.manifest,
                package_id=checked.package.package_id,
                step=checked.package.evidence.step,
                ledger_seq=checked.receipt.seq,
                memory_locked=locked,
                completion=completion,
            )
            return self._reported(outcome, checked.package, task.report_to)

    def _sample(self, task: Task, checked: Checked, weights: Weights) -> Completion:
        runner = Runner(task.model, checked.package.manifest.compatibility.adapter)
        try:
            checked.confirm_model()
            runner.attach(weights)
            self._releases.remember(checked.package)
            return runner.sample(task.prompt, task.max_tokens)
        finally:
            runner.detach()

    def _reported(self, outcome: Outcome, package: Package, server: str | None) -> Outcome:
        if server is None:
            return outcome
        try:
            reply = report(server, opened_command(package, self._identity, self._clock()), self._fetcher)
        except ReportError as error:
            return replace(outcome, problem=error)
        return replace(outcome, reply=reply)
