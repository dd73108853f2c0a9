"""A second verifier, written from docs/ledger-format.md alone: no line of it comes from the package it checks.

``problems(directory)`` is empty for an export that verifies. Run as a script, it prints them. It reads like an
auditor's own script: plain, untyped, straight down the page.
"""

# ruff: noqa: ANN001, ANN201, ANN204, N818
# mypy: ignore-errors

from __future__ import annotations

import base64
import json
import re
import struct
import sys
import time
from calendar import timegm
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

FIXED_EVENTS = {
    "85e825baef1c577cfac749a1aa4fa5667ad375ac0da6380d55e403d3d7a0d255": "ChainOpened",
    "22d860e1e7a7b842bd656d6aa97c51e447a3bfa8aa89bd10c23a544e0dc01b86": "SchemaRegistered",
    "78f307d5f79b0fbc1843f61123347c691291b92e873352d03fdc3d6486282dad": "EpochOpened",
}
FROM_AUTHORITY = {
    "ProducerEnrolled": "EnrolProducer",
    "ProducerRevoked": "RevokeProducer",
    "ApiKeyIssued": "IssueApiKey",
    "ApiKeyRevoked": "RevokeApiKey",
    "SignerKeyPublished": "PublishSignerKey",
    "SignerKeyRotated": "RotateSignerKey",
    "ArtifactKeyPublished": "PublishArtifactKey",
    "ModelRegistered": "RegisterModel",
    "ModelRemoved": "RemoveModel",
    "LedgerMoved": "MoveLedger",
    "LedgerContinued": "ContinueLedger",
}
KEY_EVENTS = {"SignerKeyPublished", "SignerKeyRotated", "ArtifactKeyPublished"}


def quoted_schemas() -> dict:
    """The JSON blocks of the page, in its order."""
    page = (Path(__file__).parents[2] / "docs" / "ledger-format.md").read_text()
    names = ["META", "SIGNED_COMMAND", "ChainOpened", "SchemaRegistered", "EpochOpened", "ENVELOPE"]
    return dict(zip(names, re.findall(r"```json\n(.*)\n```", page), strict=True))


QUOTED = quoted_schemas()


class Bad(Exception):
    """Something does not hold."""


def need(holds, what):
    if not holds:
        raise Bad(what)


def leaf(data):
    return sha256(b"\0" + data).digest()


def node(left, right):
    return sha256(b"\1" + left + right).digest()


def unbase64(text):
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise Bad("base64") from error
    need(base64.b64encode(data).decode() == text, "base64 spelling")
    return data


def check_ed25519(key, signature, message):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise Bad("Ed25519 signature") from error


# --- Avro ---------------------------------------------------------------------------------------------------------


class Source:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        need(0 <= count <= len(self.data) - self.at, "the bytes end early")
        self.at += count
        return self.data[self.at - count : self.at]

    def long(self):
        value, shift = 0, 0
        while True:
            (byte,) = self.take(1)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        need(value < 1 << 64 and (byte or shift == 7), "a number is too long")
        return value >> 1 if not value & 1 else -(value >> 1) - 1


def read(schema, source, names):  # noqa: C901, PLR0911 -- one case per row of the page's table
    if isinstance(schema, str) and schema in names:
        schema = names[schema]
    kind = "union" if isinstance(schema, list) else schema if isinstance(schema, str) else schema["type"]
    if isinstance(schema, dict) and "name" in schema:
        names[schema["name"]] = schema
    if kind in ("int", "long"):
        return source.long()
    if kind == "boolean":
        (byte,) = source.take(1)
        need(byte < 2, "boolean")
        return byte == 1
    if kind == "double":
        return struct.unpack("<d", source.take(8))[0]
    if kind in ("bytes", "string"):
        return text_or_bytes(kind, source.take(source.long()))
    if kind == "fixed":
        return source.take(schema["size"])
    if kind == "union":
        index = source.long()
        need(index in (0, 1), "union")
        return read(schema[1], source, names) if index else None
    if kind == "enum":
        index = source.long()
        need(0 <= index < len(schema["symbols"]), "enum")
        return schema["symbols"][index]
    if kind == "array":
        return read_array(schema, source, names)
    return {field["name"]: read(field["type"], source, names) for field in schema["fields"]}


def text_or_bytes(kind, data):
    try:
        return data.decode() if kind == "string" else data
    except UnicodeDecodeError as error:
        raise Bad("UTF-8") from error


def read_array(schema, source, names):
    count = source.long()
    if count == 0:
        return []
    need(count > 0, "array block")
    items = [read(schema["items"], source, names) for _ in range(count)]
    need(source.long() == 0, "array blocks")
    return items


def decode(text, data, *, whole=True):
    # A name may be used before a decoder meets its definition in the data (in a null branch), so collect all first.
    source, names = Source(data), {}
    collect(json.loads(text), names)
    value = read(json.loads(text), source, names)
    need(not whole or source.at == len(data), "bytes are left over")
    return value


def collect(schema, names):
    if isinstance(schema, list):
        collect(schema[1], names)
    elif isinstance(schema, dict):
        if "name" in schema:
            names[schema["name"]] = schema
        for field in schema.get("fields", ()):
            collect(field["type"], names)
        collect(schema.get("items"), names)


# --- schemas ------------------------------------------------------------------------------------------------------

PART = r"[A-Za-z_][A-Za-z0-9_]*"
KEYS = {
    "record": ("type name fields", "doc"),
    "fixed": ("type name size", "doc"),
    "enum": ("type name symbols", "doc"),
    "array": ("type items", ""),
}


def compact(value):
    return json.dumps(value, separators=(",", ":"))


def composed(body_text, event):
    return (
        f'{{"type":"record","name":"tensorguard.record.{event}","fields":[{{"name":"meta","type":{QUOTED["META"]}}},'
        f'{{"name":"command","type":["null",{QUOTED["SIGNED_COMMAND"]}]}},{{"name":"body","type":{body_text}}}]}}'
    )


def check_schema(kind, name, text):
    try:
        schema = json.loads(text)
        same = compact(schema) == text
    except (ValueError, RecursionError) as error:
        raise Bad("a schema is no JSON") from error
    need(same and isinstance(schema, dict), "a schema is not in compact form")
    body = schema
    if kind == "event":
        fields = schema.get("fields")
        need(isinstance(fields, list) and len(fields) == 3 and isinstance(fields[2], dict), "no event schema")
        body = fields[2].get("type")
        need(composed(compact(body), name) == text, "an event's schema is not composed")
    need(isinstance(body, dict) and body.get("type") == "record", "a body is no record")
    need(body.get("name") == f"tensorguard.{kind}.{name}", "a schema has another name")
    subset(schema, {}, 0)


def subset(schema, names, depth):
    """How deep values of the schema nest; names says so of each type defined so far."""
    need(depth <= 16, "depth")
    if isinstance(schema, str):
        need(schema in names or schema in ("bytes", "string", "boolean", "int", "long", "double"), "unknown type")
        need(depth + names.get(schema, 0) <= 16, "depth")
        return names.get(schema, 0)
    if isinstance(schema, list):
        need(len(schema) == 2 and schema[0] == "null" and not isinstance(schema[1], list), "union")
        return 1 + subset(schema[1], names, depth + 1)
    need(isinstance(schema, dict) and isinstance(schema.get("type"), str) and schema["type"] in KEYS, "type")
    required, optional = (set(keys.split()) for keys in KEYS[schema["type"]])
    need(required <= set(schema) <= required | optional, "keys")
    return subset_of_named(schema, names, depth)


def subset_of_named(schema, names, depth):
    if schema["type"] == "array":
        return 1 + subset(schema["items"], names, depth + 1)
    name, nesting = schema["name"], 0
    need(isinstance(name, str) and re.fullmatch(rf"{PART}(\.{PART})+", name) and name not in names, "name")
    if schema["type"] == "record":
        need(isinstance(schema["fields"], list), "fields")
        for field in schema["fields"]:
            need(isinstance(field, dict) and {"name", "type"} <= set(field) <= {"name", "type", "default", "doc"}, "")
            nesting = max(nesting, 1 + subset(field["type"], names, depth + 1))
        distinct_parts([field["name"] for field in schema["fields"]])
    elif schema["type"] == "enum":
        distinct_parts(schema["symbols"])
    else:
        need(type(schema["size"]) is int and 1 <= schema["size"] <= 65_535, "size")
    names[name] = nesting
    return nesting


def distinct_parts(parts):
    need(isinstance(parts, list) and parts, "no names")
    need(all(isinstance(part, str) and re.fullmatch(PART, part) for part in parts), "a name")
    need(len(set(parts)) == len(parts), "names are not distinct")


# --- trust root and checkpoints -----------------------------------------------------------------------------------


def seconds(text):
    return timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


def parse_trust_root(data):
    need(
        len(data) <= 1 << 20 and re.fullmatch(rb'\{"signed":.*,"signature":"[0-9a-f]{128}"\}\n', data, re.DOTALL),
        "frame",
    )
    signed, signature = data[10:-145], bytes.fromhex(data[-131:-3].decode())
    try:
        root = json.loads(signed)
        spelled = json.dumps(root, sort_keys=True, separators=(",", ":")).encode()
        need(root["format"] == 1 and spelled == signed, "spelling")
        need(all(root[name] and " " not in root[name] for name in ("installation_id", "origin")), "names")
        key = bytes.fromhex(root["authority_key"])
        for pair in root["signer_keys"]:
            need((len(pair["ed25519"]), len(pair["mldsa44"])) == (64, 2624), "key sizes")
            seconds(pair["from"])
            pair["until_seconds"] = None if pair["until"] is None else seconds(pair["until"])
        root["artifacts"] = {(each["key_id"], each["public_key"]) for each in root["artifact_keys"]}
        root["issued"] = seconds(root["issued_at"])
    except (ValueError, KeyError, TypeError) as error:
        raise Bad("trust root") from error
    check_ed25519(key, signature, b"tensorguard/trust-root/v1\0" + signed)
    return root


def pairs(root):
    return [(pair["ed25519"], pair["mldsa44"]) for pair in root["signer_keys"]]


def newer(pinned, found):
    for name in ("installation_id", "origin", "authority_key"):
        need(pinned[name] == found[name], "another installation than the pinned one")
    earlier, later = sorted((pinned, found), key=lambda root: root["issued"])
    need(pairs(later)[: len(pairs(earlier))] == pairs(earlier), "signers were exchanged")
    return later


def parse_note(data):
    need(len(data) <= 1 << 20, "note size")
    note = text_or_bytes("string", data)
    need(not any(ord(c) < 32 and c != "\n" for c in note), "control characters")
    text, gap, tail = note.rpartition("\n\n")
    need(gap and text and tail.endswith("\n"), "note")
    lines = tail[:-1].split("\n")
    need(len(lines) <= 64, "too many signatures")
    signatures = []
    for line in lines:
        match = re.fullmatch(r"— ([^\s+]+) ([A-Za-z0-9+/=]+)", line)
        need(match, "signature line")
        blob = unbase64(match[2])
        need(len(blob) > 4, "signature")
        signatures.append((match[1], blob[:4], blob[4:]))
    return text + "\n", signatures


def check_note(data, origin, root):
    """The (size, root) that a trusted pair of keys signed for this origin line."""
    text, signatures = parse_note(data)
    match = re.fullmatch(r"([^\n]+)\n(0|[1-9][0-9]{0,18})\n([^\n]+)\n", text)
    need(match and match[1] == origin and len(origin.encode()) <= 255, "checkpoint text")
    size, tree = int(match[2]), unbase64(match[3])
    need(size < 1 << 63 and len(tree) == 32, "checkpoint text")
    good = [pair for pair in root["signer_keys"] if signed_by(pair, origin, text, size, tree, signatures)]
    need(good, "no trusted signer")
    return size, tree


def signed_by(pair, origin, text, size, tree, signatures):
    keys = bytes.fromhex(pair["ed25519"]), bytes.fromhex(pair["mldsa44"])
    found = []
    for kind, key in zip((b"\x01", b"\x06"), keys, strict=True):
        key_id = sha256(origin.encode() + b"\n" + kind + key).digest()[:4]
        found.append([blob for name, said, blob in signatures if (name, said) == (origin, key_id)])
    if found == [[], []]:
        return False
    need([len(blobs) for blobs in found] == [1, 1], "not exactly one signature of each kind")
    (log,), (stamped,) = found
    check_ed25519(keys[0], log, text.encode())
    name = bytes([len(origin.encode())]) + origin.encode()
    message = b"subtree/v1\n\0" + name + stamped[:8] + name + bytes(8) + size.to_bytes(8, "big") + tree
    stamp = int.from_bytes(stamped[:8], "big")
    need(len(stamped) == 2428 and stamp < 1 << 63, "cosignature")
    try:
        MLDSA44PublicKey.from_public_bytes(keys[1]).verify(stamped[8:], message)
    except (InvalidSignature, ValueError) as error:
        raise Bad("ML-DSA-44 signature") from error
    need(pair["until_seconds"] is None or stamp <= pair["until_seconds"], "signed after the keys were retired")
    return True


# --- the export ---------------------------------------------------------------------------------------------------


def plain_file(path):
    need(path.is_file() and not path.is_symlink() and path.stat().st_size <= 1 << 20, f"{path.name} is missing")
    return path.read_bytes()


def chain_names(directory):
    need((directory / "chains").is_dir(), "no chains")
    for entry in (directory / "chains").iterdir():
        need(re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", entry.name), "a chain's name")
        need(entry.is_dir() and not entry.is_symlink(), "no directory")
        inside = {child.name for child in entry.iterdir() if child.is_file() and not child.is_symlink()}
        need(len(inside) == len(list(entry.iterdir())) and "records" in inside, "entries")
        need(inside <= {"records", "checkpoint"}, "entries")
        yield entry.name


def split_records(data):
    records, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        need(length and at + 2 + length <= len(data), "the records end within one")
        records.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    return records


def tree_root(leaves):
    """Straight from RFC 6962's definition."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256(b"").digest()
    cut = 1 << (len(leaves) - 1).bit_length() - 1
    return node(tree_root(leaves[:cut]), tree_root(leaves[cut:]))


def problems(directory, *, since=(), pinned=None):
    """What is wrong with an export, in words."""
    try:
        root = parse_trust_root(plain_file(directory / "trust-root.json"))
        if pinned is not None:
            root = newer(parse_trust_root(pinned), root)
        chains = sorted(chain_names(directory))
        need("platform" in chains, "no platform chain")
        seen = {}
        for note in since:
            origin = parse_note(note)[0].partition("\n")[0]
            chain = origin.removeprefix(root["origin"] + "/")
            need(chain in chains and origin == f"{root['origin']}/{chain}", "an earlier checkpoint's chain is gone")
            seen.setdefault(chain, []).append(check_note(note, origin, root))
    except Bad as bad:
        return [f"export: {bad}"]
    found = []
    for chain in chains:
        try:
            check_chain(directory / "chains" / chain, chain, root, seen.get(chain, []))
        except Bad as bad:
            found.append(f"{chain}: {bad}")
    return found


def check_chain(folder, chain, root, seen):
    head = check_note(plain_file(folder / "checkpoint"), f"{root['origin']}/{chain}", root)
    records = split_records((folder / "records").read_bytes())
    leaves = [leaf(record) for record in records]
    for record, before in zip(records, [bytes(32), *leaves], strict=False):
        need(record[:32] == before, "the chain is broken")
    for size, tree in [head, *seen]:
        need(size <= len(records), "records are missing")
        need(tree_root(leaves[:size]) == tree, "another tree than the signed one")
    need(records, "no records")
    Fold(chain, root).run(records)


class Fold:
    def __init__(self, chain, root):
        self.chain, self.root = chain, root
        self.event_schemas = {}
        for digest, event in FIXED_EVENTS.items():
            text = composed(QUOTED[event], event)
            need(sha256(text.encode()).hexdigest() == digest, "the page contradicts itself")
            self.event_schemas[bytes.fromhex(digest)] = text
        self.command_schemas = {}
        self.versions, self.clock, self.epoch, self.epoch_open = {}, 0, None, False
        self.moved_to = None
        self.authority = bytes.fromhex(root["authority_key"])
        self.keys = {sha256(self.authority).digest(): self.authority}
        self.revoked, self.decided = set(), set()
        self.envelope, self.count, self.over = None, 0, True
        self.signers, self.artifacts = [], set()

    def run(self, records):
        for seq, data in enumerate(records):
            meta = decode(QUOTED["META"], data, whole=False)
            need(meta["schema"] in self.event_schemas, f"record {seq} has a schema that is not registered")
            text = self.event_schemas[meta["schema"]]
            value = decode(text, data)
            event = json.loads(text)["name"].rpartition(".")[2]
            try:
                self.check(seq, event, meta, value["command"], value["body"])
            except Bad as bad:
                raise Bad(f"record {seq}: {bad}") from bad
            except KeyError as error:
                raise Bad(f"record {seq} lacks a field") from error
        trusted = pairs(self.root)
        need(self.chain != "platform" or self.signers[: len(trusted)] == trusted, "signers differ")
        need(self.chain != "platform" or self.root["artifacts"] <= self.artifacts, "artifact keys differ")

    def check(self, seq, event, meta, command, body):
        need((meta["chain"], meta["seq"]) == (self.chain, seq), "position")
        need(meta["stream_seq"] == self.versions.get(meta["stream"], 0), "stream position")
        self.versions[meta["stream"]] = meta["stream_seq"] + 1
        need(meta["recorded_at"] >= self.clock, "clock")
        self.clock = meta["recorded_at"]
        need((event == "ChainOpened") == (seq == 0), "opening")
        self.check_epoch(event, meta["epoch"], body)
        if event in FIXED_EVENTS.values():
            self.check_own(seq, event, meta, command, body)
        else:
            self.check_caused(event, meta, command, body)
            self.check_move(event, body)
        self.check_keys(event, body)

    def check_epoch(self, event, epoch, body):
        if event == "ChainOpened":
            need(epoch >= 0, "epoch")
            self.epoch = epoch
        elif event == "EpochOpened":
            first = not self.epoch_open and epoch == self.epoch
            need(body["epoch"] == epoch and (first or epoch > self.epoch), "epoch")
            self.epoch, self.epoch_open = epoch, True
        else:
            need(self.epoch_open and epoch == self.epoch, "epoch")

    def check_move(self, event, body):
        if event == "LedgerContinued":
            need(body["ledger"] == self.moved_to, "move")
            self.moved_to = None
            return
        need(self.moved_to is None, "move")
        if event == "LedgerMoved":
            self.moved_to = body["ledger"]

    def check_own(self, seq, event, meta, command, body):
        need(command is None and meta["cause"] is None and meta["stream"] == "chain", "own record")
        position = sha256(b"chain\0" + self.chain.encode() + seq.to_bytes(8, "big")).digest()[:16]
        need(meta["event_id"] == event_id(position, event, 0), "event id")
        if event == "ChainOpened":
            need(body["format_version"] == 1 and body["chain"] == self.chain, "opening")
            need(body["origin"] == f"{self.root['origin']}/{self.chain}", "opening")
            need(body["authority_key"] == self.authority, "opening")
        elif event == "SchemaRegistered":
            known = body["schema"] in self.event_schemas or body["schema"] in self.command_schemas
            need(not known and sha256(body["text"].encode()).digest() == body["schema"], "schema")
            need(body["kind"] == "command" or body["name"] not in FIXED_EVENTS.values(), "schema")
            check_schema(body["kind"], body["name"], body["text"])
            if body["kind"] == "event":
                self.event_schemas[body["schema"]] = body["text"]
            else:
                self.command_schemas[body["schema"]] = (body["name"], body["text"])

    def check_caused(self, event, meta, command, body):
        if command is None:
            need(not self.over, "no command")
            need(event not in FROM_AUTHORITY and event != "CommandRejected", "no command of its own")
            self.count += 1
        else:
            self.count = 0
            self.check_command(event, meta, command, body)
        for name, field in (("cause", "command_id"), ("correlation", "correlation"), ("trace", "trace")):
            need(meta[name] == self.envelope[field], name)
        need(meta["event_id"] == event_id(self.envelope["command_id"], event, self.count), "event id")

    def check_command(self, event, meta, command, body):
        self.envelope = envelope = decode(QUOTED["ENVELOPE"], command["payload"])
        need(envelope["command_id"] not in self.decided, "a command twice")
        self.decided.add(envelope["command_id"])
        need(command["key_id"] in self.keys and command["key_id"] not in self.revoked, "producer")
        tree = root_by_path(command)
        message = b"tensorguard/command/v1\0" + command["batch_size"].to_bytes(8, "big") + tree
        check_ed25519(self.keys[command["key_id"]], command["signature"], message)
        name, text = self.command_schemas.get(envelope["schema"], (None, None))
        need(name == envelope["command_type"], "the command's schema")
        asked = decode(text, envelope["body"])
        need(envelope["chain"] == self.chain, "chain")
        self.over = event == "CommandRejected"
        if self.over:
            need(meta["stream"] == "rejections", "rejections")
            need(all(body[each] == envelope[each] for each in ("command_id", "command_type", "stream")), "rejection")
            need(envelope["tenant"] == self.chain or body["code"] == "foreign_tenant", "tenant")
        else:
            need(envelope["tenant"] == self.chain and envelope["stream"] == meta["stream"], "tenant or stream")
            need(meta["recorded_at"] < envelope["expires_at"], "expired")
        if event in FROM_AUTHORITY:
            need(self.keys[command["key_id"]] == self.authority, "not by the authority")
            need(name == FROM_AUTHORITY[event] and asked == body, "says something else than its command")

    def check_keys(self, event, body):
        need(event not in KEY_EVENTS or self.chain == "platform", "keys off the platform chain")
        if event == "ProducerEnrolled":
            need(sha256(body["public_key"]).digest() == body["key_id"], "key id")
            self.keys[body["key_id"]] = body["public_key"]
        elif event == "ProducerRevoked":
            self.revoked.add(body["key_id"])
        elif event == "ArtifactKeyPublished":
            self.artifacts.add((body["key_id"].hex(), body["public_key"].hex()))
        elif event in KEY_EVENTS:
            last = bytes.fromhex(self.signers[-1][0]) if self.signers else None
            need(body.get("previous_ed25519_key") == last, "rotation")
            self.signers.append((body["ed25519_key"].hex(), body["mldsa44_key"].hex()))


def event_id(cause, event, index):
    return sha256(b"tensorguard/event/v1\0" + cause + event.encode() + index.to_bytes(4, "big")).digest()[:16]


def root_by_path(command):
    fn, size = command["batch_index"], command["batch_size"]
    need(0 <= fn < size, "batch position")
    sn, here = size - 1, leaf(command["payload"])
    for step in command["batch_path"]:
        need(sn, "path too long")
        if fn & 1 or fn == sn:
            here = node(step, here)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            here = node(here, step)
        fn, sn = fn >> 1, sn >> 1
    need(sn == 0, "path too short")
    return here


if __name__ == "__main__":
    for problem in problems(Path(sys.argv[1])):
        print(problem)  # noqa: T201 -- a script
