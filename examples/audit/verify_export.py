"""Verify an exported audit log against the heads that sites kept, without Archipel.

    archipel audit export > log.jsonl
    archipel audit heads SITE-FOLDER > heads.jsonl
    python verify_export.py log.jsonl ca.pem heads.jsonl …

Needs Python >= 3.11 and `cryptography`. `ca.pem` is the CA's certificate as a site got it when it joined, not as the
control plane serves it today. The tree is that of RFC 6962, section 2.1.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DOMAIN = b"archipel-tree-head/1\n"


def roots_of(lines: list[bytes]) -> list[str]:
    """Return the root of the log after 0, 1, 2 … entries."""
    peaks: list[tuple[int, bytes]] = []  # (leaves, hash) of complete subtrees, from the left
    roots = [hashlib.sha256(b"").hexdigest()]
    for line in lines:
        size, node = 1, hashlib.sha256(b"\x00" + line).digest()
        while peaks and peaks[-1][0] == size:
            node = hashlib.sha256(b"\x01" + peaks.pop()[1] + node).digest()
            size *= 2
        peaks.append((size, node))
        root = node
        for _, left in reversed(peaks[:-1]):
            root = hashlib.sha256(b"\x01" + left + root).digest()
        roots.append(root.hex())
    return roots


def fault_of(line: bytes, roots: list[str], key: ec.EllipticCurvePublicKey, log: str) -> str | None:
    """Return what is wrong with a head; None: it is signed, and the log is the one it speaks of."""
    signed = line[line.index(b'"head":') + 7 : line.index(b',"signature":')]  # the very bytes
    head = json.loads(signed)
    if head["log"] != log:
        return "is of another log"
    try:
        key.verify(base64.b64decode(json.loads(line)["signature"]), DOMAIN + signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return "has no valid signature"
    if head["size"] >= len(roots):
        return f"speaks of {head['size']} entries, the export has {len(roots) - 1}"
    if head["root"] != "sha256:" + roots[head["size"]]:
        return f"does not fit the first {head['size']} entries"
    return None


def main(export: str, authority: str, *kept: str) -> int:
    """Print what is wrong, or that nothing is; return the exit code."""
    first, *lines = Path(export).read_bytes().splitlines()
    key = x509.load_pem_x509_certificate(Path(authority).read_bytes()).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    log = hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()
    roots = roots_of(lines)
    heads = [("the export's own head", first)]
    size = json.loads(first)["head"]["size"]
    faults = [] if size == len(lines) else [f"{len(lines)} entries, and the export's own head speaks of {size}"]
    for path in kept:
        heads += [(f"{path} line {n}", line) for n, line in enumerate(Path(path).read_bytes().splitlines(), 1)]
    faults += [f"{name} {fault}" for name, line in heads if (fault := fault_of(line, roots, key, log))]
    for fault in faults:
        print(f"FAULT: {fault}")
    if not faults:
        print(f"{len(lines)} entries fit their head and {len(heads) - 1} heads kept elsewhere")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
