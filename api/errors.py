"""Everything a client can be told: one table of codes, each with its status, title and next step.

The codes of refused commands (``producers.deciders``) and of failed operations are part of it, so that the ledger, the
REST problem documents and the SDK's exceptions speak with one vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tensorguard.errors import TensorGuardError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Kind:
    """What a code means to a client; ``next_step`` says what to do about it."""

    status: int
    title: str
    next_step: str


_ASK = "Look at the server's log; if it stays so, ask the operator."
_AGAIN = "Send the request again; an Idempotency-Key makes that safe."
_BATCH = "Send input_ids, attention_mask and labels as lists of equally long rows of integers."
_STATE = "Read the training client again, then decide what to send."
_TOKENIZER = "Encode with the model's own tokenizer: every id lies in its vocabulary."

KINDS: dict[str, Kind] = {
    # The door.
    "unauthenticated": Kind(
        401, "No valid API key", "Send `Authorization: Bearer tg-key-…`; get a key from the operator."
    ),
    "forbidden": Kind(403, "Not allowed", "Use a key with the scope that the detail names."),
    "not_found": Kind(404, "Nothing here", "Check the path and the id; ids of other tenants do not exist for you."),
    "unknown_model": Kind(
        404, "No such model", "List the catalogue at /v1/models; an operator adds to it by `tensorguard models add`."
    ),
    "unknown_future": Kind(404, "No such future", "Check the id; futures of other tenants do not exist for you."),
    "unknown_training_client": Kind(404, "No such training client", "List yours at /v1/training_clients."),
    "unknown_artifact": Kind(404, "No such artifact", "List yours at /v1/artifacts."),
    "unknown_export": Kind(404, "No such export", "List yours at /v1/exports."),
    "unknown_package": Kind(404, "No such package", "List yours at /v1/packages."),
    "method_not_allowed": Kind(405, "Not that method", "See /openapi.json for what this path takes."),
    "invalid_request": Kind(422, "The request is not valid", "Correct what `errors` lists and send it again."),
    "malformed_body": Kind(400, "The body is no JSON", "Send one JSON value in UTF-8."),
    "malformed_record": Kind(
        422, "No signed command", "Send the Avro encoding of a SignedCommand of this build's schemas."
    ),
    "body_too_large": Kind(
        413, "The body is too large", "Send smaller batches; several may be accumulated before a step."
    ),
    "https_required": Kind(403, "Only by HTTPS", "Use the server's https:// address; make a new key if it was sent."),
    "unsupported_media_type": Kind(415, "Not that content type", "Send application/json, or what /openapi.json names."),
    "unsupported_encoding": Kind(
        415, "Not that content encoding", "Compress with one of the Accept-Encoding header's encodings, or not at all."
    ),
    "malformed_encoding": Kind(
        400, "The body does not decompress", "Send one whole stream, compressed as Content-Encoding says."
    ),
    "idempotency_key_reused": Kind(422, "The idempotency key is taken", "Use a fresh key for every different request."),
    "quota_exceeded": Kind(429, "Too much is waiting", "Wait for futures to finish, then send it again."),
    # Batches and settings.
    "empty_batch": Kind(
        422, "Nothing to learn from", "Send at least one row with a label that is not -100 behind its first token."
    ),
    "ragged_batch": Kind(
        422, "Rows of different lengths", "Pad every row to one length, with attention_mask 0 and label -100."
    ),
    "wrong_dtype": Kind(422, "Not integers", _BATCH),
    "token_out_of_vocabulary": Kind(422, "A token outside the vocabulary", _TOKENIZER),
    "sequence_too_long": Kind(422, "Too long for the model", "Cut the sequences to the model's max_positions."),
    "chat_template_refused": Kind(
        422,
        "No template for these messages",
        "Send prompts or tokens instead of messages, or the roles and their order that the model's template knows.",
    ),
    "batch_too_large": Kind(
        422, "Too large a batch", "Send fewer rows; several batches may be accumulated before a step."
    ),
    "dp_not_available": Kind(
        422, "No differential privacy yet", "Leave dp_config out: this server cannot train under a privacy budget."
    ),
    # Decisions on commands.
    "accumulation_full": Kind(
        409,
        "A step's batches are there",
        "Send optim_step, or create a run with another gradient_accumulation_steps.",
    ),
    "accumulation_incomplete": Kind(
        409,
        "A step lacks batches",
        "Send forward_backward until there are gradient_accumulation_steps of them, then optim_step.",
    ),
    "already_exists": Kind(409, "It exists", "Take another name or id."),
    "already_revoked": Kind(409, "It was revoked before", "Nothing is left to do."),
    "artifact_in_use": Kind(
        409,
        "The run rests on it",
        "Save a newer state with its optimizer, or close the training client; then delete it.",
    ),
    "export_not_ready": Kind(
        409, "The export is not ready", "Wait for it with /v1/exports/{id}?wait=25; if it failed, ask for another."
    ),
    "export_gone": Kind(410, "The export is gone", "Its time was over or it was deleted: export the artifact again."),
    "export_damaged": Kind(409, "The export's files are damaged", "Export the artifact again."),
    "nothing_to_export": Kind(409, "No adapter in the checkpoint", "Export it as `merged`: it holds all weights."),
    "range_not_satisfiable": Kind(416, "No such range", "Ask for bytes below the size in the file's description."),
    "package_not_signed": Kind(
        409, "The package is not signed", "Wait for it with /v1/packages/{id}?wait=25; if it failed, ask for another."
    ),
    "expired": Kind(409, "The command's time is over", "Sign it anew; check the clocks of both sides."),
    "foreign_tenant": Kind(403, "Another tenant's", "Speak only for the tenant whose key you hold."),
    "interval_over": Kind(409, "Sealed under an earlier key", _AGAIN),
    "invalid_value": Kind(422, "A value is not valid", "Correct the value that the detail names."),
    "ledger_moved": Kind(503, "The ledger is elsewhere", "Ask the operator where the ledger has gone."),
    "max_steps_reached": Kind(409, "The run has all its steps", "Create a run with a higher max_steps."),
    "no_lease": Kind(409, "Nobody holds the run", _AGAIN),
    "nothing_to_apply": Kind(409, "No gradient to apply", "Send forward_backward before optim_step."),
    "operation_finished": Kind(409, "It has finished", "Read its result."),
    "out_of_order": Kind(409, "Out of order", _STATE),
    "replaying": Kind(409, "Being computed again", "Ask again in a moment; nothing is lost."),
    "run_closed": Kind(409, "The training client is closed", "Create another one; it may load this one's checkpoints."),
    "run_rolled_back": Kind(
        409,
        "Operations were lost",
        "Go on from last_durable_step: repeat what came after it, with the new generation.",
    ),
    "sampling_only": Kind(409, "Made to sample only", "Create a training client without that restriction to train."),
    "stale_lease": Kind(409, "Another worker holds the run", _STATE),
    "unknown_sampler": Kind(404, "No such sampler", "List yours at /v1/samplers."),
    "unknown_operation": Kind(404, "No such operation", _STATE),
    "version_conflict": Kind(409, "It changed meanwhile", _STATE),
    "wrong_operation_kind": Kind(409, "Another kind of operation", _STATE),
    "wrong_stream": Kind(422, "Addressed to the wrong stream", "Address the command to its own stream and chain."),
    "wrong_worker": Kind(409, "Another worker's lease", _STATE),
    # Futures that did not complete.
    "operation_lost": Kind(
        409,
        "The operation was lost",
        "Go on from last_durable_step: repeat what came after it, with the new generation.",
    ),
    "cancelled": Kind(409, "The operation was cancelled", "Send it again if you still want it."),
    "result_expired": Kind(410, "The result is gone", "Results are kept for an hour: send the operation again."),
    "result_damaged": Kind(
        410, "The result does not open", "Send the operation again; tell the operator to look at the file system."
    ),
    "non_finite_loss": Kind(422, "The loss is not finite", "Lower the learning rate or look at the batch."),
    "out_of_memory": Kind(507, "Not enough memory", "Send smaller batches or shorter sequences."),
    "worker_killed": Kind(
        507,
        "It ended its worker again and again",
        "Send smaller batches or shorter sequences: a process that needs more memory than there is, is killed.",
    ),
    "empty_gradient": Kind(
        422, "No label gave a gradient", "Send rows with labels that are not -100 behind their first token."
    ),
    "batch_lost": Kind(409, "The batch is lost", "Send it again."),
    "checkpoint_damaged": Kind(
        409, "The checkpoint is damaged", "Load another checkpoint, or restore this one from a backup."
    ),
    "checkpoint_truncated": Kind(
        409, "The checkpoint is cut short", "Load another checkpoint, or restore this one from a backup."
    ),
    "checkpoint_wrong_key": Kind(409, "The checkpoint is under another key", "Load a checkpoint of this tenant."),
    "checkpoint_mismatch": Kind(
        409, "The checkpoint is of another model or shape", "Load it into a run with its model and lora_config."
    ),
    "model_changed": Kind(409, "The model's files changed", "Ask the operator to restore the registered files."),
    # Packages that could not be made.
    "recipient_unknown": Kind(409, "A recipient is no device", "Enrol the device, then ask again."),
    "nothing_to_package": Kind(409, "No adapter in the checkpoint", "Ask for a package of a checkpoint of a LoRA run."),
    "model_unknown": Kind(409, "The base model is gone", "Ask the operator to register the base model again."),
    "blob_not_found": Kind(409, "The checkpoint's files are gone", "Ask for a package of another checkpoint."),
    "key_lost": Kind(409, "The tenant's key does not open", "Ask the operator to restore the installation's keys."),
    # The server's side.
    "storage_full": Kind(
        507,
        "No space left",
        "Ask the operator to free space, then send it again with the same Idempotency-Key: it has effect once.",
    ),
    "ledger_unavailable": Kind(503, "The ledger does not answer", _AGAIN),
    "no_decision": Kind(503, "Not decided in time", _AGAIN),
    "views_behind": Kind(
        503,
        "Decided, but not readable yet",
        "It has effect: read it in a moment, or send it again with its Idempotency-Key.",
    ),
    "no_checkpoint": Kind(503, "Not signed yet", "Ask again in a moment: the signer is behind or not running."),
    "exchange_unavailable": Kind(503, "The exchange does not answer", _AGAIN),
    "internal_error": Kind(500, "A fault of ours", _ASK),
}


def next_step_of(code: str) -> str:
    """What to do about a code; nothing for one that clients are never told."""
    return KINDS[code].next_step if code in KINDS else ""


class ApiError(TensorGuardError):
    """What a client is told instead of an answer.

    ``extras`` are further members of the problem document, ``headers`` those of the answer that its status asks for.
    """

    def __init__(self, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **extras: Any) -> None:
        super().__init__(detail, next_step=KINDS[code].next_step)
        self.code = code
        self.headers = headers or {}
        self.extras = extras

    @property
    def kind(self) -> Kind:
        """Status, title and next step of the code."""
        return KINDS[self.code]


class ServerError(TensorGuardError):
    """Base of what keeps a server from starting or running."""

    code = "server_error"
    next_step = "Look at the server's log."


class PartFailedError(ServerError):
    """A thread of the server ended with a fault of ours."""

    code = "part_failed"


class ServerRunningError(ServerError):
    """Another server writes this data directory."""

    code = "writer_active"
    next_step = "Use the server that runs (run/server.json names its address), or stop it first."


class TlsError(ServerError):
    """The server cannot speak HTTPS with the certificate and key that are set."""

    code = "tls"
    next_step = "Name a certificate chain in TG_TLS_CERT and its unencrypted key in TG_TLS_KEY, both in PEM."


class ProductionError(ServerError):
    """Something that production must not do without is not set."""

    code = "not_for_production"
    next_step = "Set these, or TG_ENVIRONMENT=development where nobody else can reach the server."


class AddressUnavailableError(ServerError):
    """The address cannot be listened on."""

    code = "address_unavailable"
    next_step = "Give another --port or --host, or stop what listens there."
