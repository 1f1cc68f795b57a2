"""Khronos' glTF validator, where node and its package are installed; else tests are skipped with the reason."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

VALIDATE = """
const validator = require("gltf-validator"), fs = require("fs");
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])))
  .then((report) => console.log(JSON.stringify(report.issues.messages)));
"""


def validated(path: Path) -> list[dict[str, Any]]:
    """Messages of the Khronos validator about a file."""
    if shutil.which("node") is None:
        pytest.skip("no node on this machine, which runs Khronos' glTF validator")
    done = subprocess.run(
        ["node", "-e", VALIDATE, str(path)], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    if "Cannot find module 'gltf-validator'" in done.stderr:
        pytest.skip(
            "no gltf-validator; `npm install gltf-validator`, and NODE_PATH=…/node_modules, run this test"
        )
    assert done.returncode == 0, done.stderr
    messages: list[dict[str, Any]] = json.loads(done.stdout)
    return messages
