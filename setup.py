"""Builds the C core; everything else is in pyproject.toml."""

import os
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

CORE = Path("devicemesh/_core")
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))  # has no stable ABI
STABLE_ABI = not FREE_THREADED and sys.implementation.name == "cpython"
# A compiler newer than ours may warn anew: that must stop us (a checkout), never a user (an sdist).
STRICT = ["-Werror"] if Path(".git").exists() else []
# No fused multiply-add: the C core and its readable twin must agree to the last bit. Nobody reads errno after
# sqrt(), nor the floating-point flags: without them loops become vectors, and results stay the same.
FLAGS = ["-std=c11", "-O3", "-Wall", "-Wextra", "-fvisibility=hidden", "-g0"]
FLAGS += ["-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
HELP = """\
DeviceMesh's core is written in C: building it needs a C compiler and Python's headers.
  Debian, Ubuntu:  sudo apt-get install build-essential python3-dev
  Fedora, RHEL:    sudo dnf install gcc python3-devel
  Alpine:          sudo apk add build-base python3-dev linux-headers
  macOS:           xcode-select --install
"""


class BuildCore(build_ext):
    """Says what to install where the compiler or the headers are missing; there is no slow fallback."""

    def build_extensions(self) -> None:
        headers = [Path(folder, "Python.h") for folder in self.compiler.include_dirs + self.include_dirs]
        if not any(header.is_file() for header in headers):
            raise SystemExit(f"error: Python.h was not found\n\n{HELP}")
        if self.compiler.compiler_type == "unix":
            for extension in self.extensions:
                extension.extra_compile_args = [
                    *FLAGS,
                    *STRICT,
                    *os.environ.get("DEVICEMESH_CFLAGS", "").split(),
                ]
        try:
            super().build_extensions()
        except (CCompilerError, BaseError) as problem:
            raise SystemExit(f"error: {problem}\n\n{HELP}") from problem


setup(
    ext_modules=[
        Extension(
            "devicemesh._core._native",
            sources=sorted(str(path) for path in CORE.rglob("*.c")),
            depends=sorted(str(path) for path in CORE.rglob("*.h")),
            include_dirs=[str(CORE)],
            define_macros=[("Py_LIMITED_API", "0x030B0000")] if STABLE_ABI else [],
            py_limited_api=STABLE_ABI,
        )
    ],
    cmdclass={"build_ext": BuildCore},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE_ABI else {},
)
