"""The client stays light: nothing heavy, and nothing of the optional extra, before it is used."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "transformers", "peft", "numpy", "pyarrow", "tokenizers", "jinja2", "fastapi", "sqlalchemy")


def test_importing_the_client_imports_no_heavy_library() -> None:
    code = (
        "import sys, tg_tinker, tg_tinker.data, tg_tinker.schedules, tg_tinker.cli.main\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []
