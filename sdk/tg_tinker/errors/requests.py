"""Requests that are wrong themselves."""

from __future__ import annotations

from tg_tinker.errors.base import TGTinkerError


class InvalidRequestError(TGTinkerError):
    """The request itself is wrong."""

    code = "invalid_request"
    exit_code = 2
    next_step = "Correct the field that the message names."


class EmptyBatchError(InvalidRequestError):
    """A batch without rows or without tokens."""

    code = "empty_batch"
    next_step = "Send at least one row with at least one token."


class RaggedBatchError(InvalidRequestError):
    """Rows or fields of different lengths."""

    code = "ragged_batch"
    next_step = "Pad the rows to one length: attention_mask 0 and labels -100 where there is padding."


class TokenOutOfVocabularyError(InvalidRequestError):
    """A token id that the model does not have."""

    code = "token_out_of_vocabulary"
    next_step = "Use the tokenizer of this very model."


class WrongDtypeError(InvalidRequestError):
    """Something else than whole numbers where token ids belong."""

    code = "wrong_dtype"
    next_step = "Send integers: .astype('int64') in numpy, .long() in torch."


class SequenceTooLongError(InvalidRequestError):
    """More tokens in a row than the model has positions."""

    code = "sequence_too_long"
    next_step = "Cut the rows to the model's max_positions."


class ChatTemplateRefusedError(InvalidRequestError):
    """Messages that the model's chat template does not take, or a model without one."""

    code = "chat_template_refused"
    next_step = "Send prompts or tokens, or the roles and their order that the model's template knows."


class BatchTooLargeError(InvalidRequestError):
    """More tokens than one operation may have."""

    code = "batch_too_large"
    next_step = "Send the rows in several forward_backward calls before one optim_step."


class DPNotAvailableError(InvalidRequestError):
    """This server trains without differential privacy; it refuses rather than ignores the request."""

    code = "dp_not_available"
    next_step = "Leave dp_config out, if training without differential privacy is acceptable."


class IdempotencyKeyReusedError(InvalidRequestError):
    """An Idempotency-Key came with two different requests."""

    code = "idempotency_key_reused"
    next_step = "Use a new key for a new request."


class InvalidValueError(InvalidRequestError):
    """A value that the ledger does not take."""

    code = "invalid_value"
    next_step = "Correct the value that the message names."


class BodyError(InvalidRequestError):
    """A body that the server does not read."""

    code = "body_unusable"
    next_step = "Send it as this client does: JSON in UTF-8, whole."


class MalformedBodyError(BodyError):
    """The body is no JSON."""

    code = "malformed_body"


class MalformedEncodingError(BodyError):
    """The body does not decompress."""

    code = "malformed_encoding"


class UnsupportedEncodingError(BodyError):
    """The body is compressed in a way that the server does not know."""

    code = "unsupported_encoding"


class UnsupportedMediaTypeError(BodyError):
    """The body is none of the types that the server takes."""

    code = "unsupported_media_type"


class BodyTooLargeError(BodyError):
    """More bytes than the server takes at once."""

    code = "body_too_large"
    next_step = "Send fewer rows at a time; gradients accumulate until optim_step."


class MethodNotAllowedError(InvalidRequestError):
    """The server knows the path, and does not do that there."""

    code = "method_not_allowed"
    next_step = "Check that the server is of this client's version."


class RangeNotSatisfiableError(InvalidRequestError):
    """The file ends before the bytes that were asked for."""

    code = "range_not_satisfiable"
    next_step = "Ask for bytes below the size that the server names."
