"""The GPU, the versions of everything beside it, one product and one kernel."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from step import Step, relative_error

# isort: split
import numpy as np

PACKAGES = [
    "numpy",
    "cupy-cuda13x",
    "cupy-cuda12x",
    "torch",
    "nvidia-cublas",
    "nvidia-cuda-nvrtc",
    "cuda-pathfinder",
    "ml_dtypes",
]


def versions(step: Step) -> None:
    import cupy

    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    runtime = cupy.cuda.runtime
    step.emit(
        "versions",
        python=platform.python_version(),
        packages=found,
        driver=runtime.driverGetVersion(),
        runtime=runtime.runtimeGetVersion(),
    )


def gpu(step: Step) -> None:
    import cupy

    facts = cupy.cuda.runtime.getDeviceProperties(0)
    numbers = {name: value for name, value in facts.items() if isinstance(value, int | float)}
    step.emit("gpu", name=facts["name"].decode(), **numbers)


def product(step: Step) -> None:
    import cupy

    a = np.random.default_rng(0).standard_normal((300, 300)).astype(np.float32)
    got = cupy.matmul(cupy.asarray(a), cupy.asarray(a))
    error = relative_error(got, a.astype(np.float64) @ a.astype(np.float64))
    step.emit("product", relative_error=error, holds=error < 1e-5)


def kernel(step: Step) -> None:
    from nanograd_gpt.backend.contract import AdamWNumbers
    from nanograd_gpt.backend.plain import optimizer as plain
    from nanograd_gpt.backend.select import kernels_of, to_device

    param, grad, mean, root = np.random.default_rng(0).standard_normal((4, 5000)).astype(np.float32)
    numbers = np.array(AdamWNumbers.at_step(3, 1e-2, (0.9, 0.999), eps=1e-8, weight_decay=0.1))
    arrays = [param, grad, mean, root * root]
    ours = [to_device(a.copy(), "cuda") for a in arrays]
    kernels_of(ours[0]).adamw(*ours, to_device(numbers, "cuda"), None)
    exact = [a.astype(np.float64) for a in arrays]
    plain.adamw(*exact, numbers, None)
    error = max(relative_error(a, b) for a, b in zip(ours, exact, strict=True))
    step.emit("kernel adamw", relative_error=error, holds=error < 1e-6)


if __name__ == "__main__":
    sys.exit(Step(__doc__).run(versions, gpu, product, kernel))
