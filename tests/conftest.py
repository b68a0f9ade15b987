"""Every test process computes with one BLAS thread: several run side by side, and would wait for each other."""

from __future__ import annotations

import os

from threadpoolctl import threadpool_limits

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start
threadpool_limits(1, user_api="blas")
