"""Run the whole suite on the installed package, once for each backend that this machine can run, selected by name.

    python wheels/run_tests.py [arguments of pytest]

A wheel without a compiled backend fails, unless ``BPCORE_TEST_PURE=1`` announces the pure one; so does a skipped test
that ``ALLOWED`` does not name, and a run in which no test passes. ``BPCORE_BACKEND`` selects one backend.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

#: Reasons for which a test may be skipped: what the platform lacks, never what the package lacks.
ALLOWED = ("not every platform has it", "the system has no affinity masks", "does not tell a process's peak memory")


def main() -> int:
    names = subprocess.run(
        [sys.executable, "-c", "import bpcore; print(*bpcore.available_backends())"],
        check=True,
        text=True,
        capture_output=True,
    ).stdout.split()
    if os.environ.get("BPCORE_TEST_PURE", "0") != "1" and names == ["python"]:
        print("run_tests.py: the wheel has no compiled backend", file=sys.stderr)
        return 1
    expected = os.environ.get("BPCORE_BACKEND")
    for name in [expected] if expected else names:
        print(f"run_tests.py: backend {name}", flush=True)
        with subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", *sys.argv[1:]],
            env=os.environ | {"BPCORE_BACKEND": name, "BPCORE_TEST_ALONE": "1"},
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
        ) as pytest:
            assert pytest.stdout
            lines = []
            for line in pytest.stdout:
                lines.append(line)
                print(line, end="", flush=True)
        skipped = [line for line in lines if line.startswith("SKIPPED")]
        wrong = [line for line in skipped if not any(reason in line for reason in ALLOWED)]
        counts = next((line.strip("= \n") for line in reversed(lines) if re.search(r"\d+ passed", line)), "")
        if pytest.returncode or wrong or not counts:
            print(f"run_tests.py: backend {name} failed", *wrong, sep="\n", file=sys.stderr)
            return 1
        print(f"run_tests.py: backend {name}: {counts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
