"""``python -m bpcore``: see :mod:`bpcore.cli`."""

from bpcore.cli import main

raise SystemExit(main())
