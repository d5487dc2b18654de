# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m dynamosd.cli`` is ``dynamosctl``."""

from __future__ import annotations

import sys

from dynamosd.cli import main

if __name__ == "__main__":
    sys.exit(main())
