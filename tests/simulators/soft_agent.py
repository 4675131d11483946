"""An AI agent on a disk with the AIBOM that fits it, for tests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILES: Mapping[str, tuple[str, bytes]] = {
    "agent.py": ("application", b"print('I act')\n"),
    "models/tiny.onnx": ("machine-learning-model", b"weights " * 64),
    "config/agent.toml": ("file", b"[agent]\ngoal = 'sort parts'\n"),
    "data/examples.jsonl": ("data", b'{"in": 1, "out": 2}\n'),
}
"""Path to component type and content."""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def component(path: str, kind: str, content: bytes) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": kind,
        "bom-ref": f"ref-{path}",
        "name": path,
        "hashes": [{"alg": "SHA-256", "content": sha256(content)}],
    }
    if kind != "file":
        made["evidence"] = {"occurrences": [{"location": path}]}
    if kind == "data":
        made["data"] = [{"type": "dataset", "name": "examples"}]
    return made


def aibom(files: Mapping[str, tuple[str, bytes]] = FILES, **changes: Any) -> dict[str, Any]:
    """A complete AIBOM for these files; ``changes`` replace top-level keys."""
    document: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "agent",
                "name": "field-assistant",
                "version": "2.1",
            }
        },
        "components": [
            *(component(path, kind, content) for path, (kind, content) in files.items()),
            {
                "type": "library",
                "bom-ref": "pkg:pypi/numpy@2.1.0",
                "name": "numpy",
                "version": "2.1.0",
                "purl": "pkg:pypi/numpy@2.1.0",
            },
            {"type": "operating-system", "bom-ref": "os", "name": "debian", "version": "12"},
        ],
        "dependencies": [{"ref": "agent", "dependsOn": ["pkg:pypi/numpy@2.1.0"]}],
    }
    return document | changes


def text(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=1).encode()


def install(folder: Path, files: Mapping[str, tuple[str, bytes]] = FILES) -> tuple[Path, Path]:
    """Write the agent and its AIBOM below ``folder``; return root and AIBOM file."""
    root = folder / "agent"
    for path, (_, content) in files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    document = folder / "agent.cdx.json"
    document.write_bytes(text(aibom(files)))
    return root, document
