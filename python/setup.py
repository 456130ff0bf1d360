"""Everything is in pyproject.toml but this: a package carries libdpipe where it was built, and is then for one platform and every Python 3.

In the repository the libraries are those of `make` (BUILD, else build/release); a source folder of `make wheel` has them already."""
import ctypes
import os
import subprocess
import sys

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.dist import Distribution

here = os.path.dirname(os.path.abspath(__file__))
root = os.path.dirname(here)
built = os.environ.get("BUILD", os.path.join(root, "build", "release"))
there = os.path.exists(os.path.join(here, "dpipe", "libdpipe.so.0"))
library, archive = (os.path.join(built, n) for n in ("libdpipe.so", "libdpipe.a"))
taken = not there and all(map(os.path.exists, (library, archive, os.path.join(root, "tools", "wheel-libraries.sh"))))


def of_the_system():
    try:
        ctypes.CDLL(os.environ.get("DPIPE_LIBRARY", "libdpipe.so.0"))
        return True
    except OSError:
        return False


class WithLibraries(build_py):
    def run(self):
        super().run()
        if taken:
            subprocess.run([os.path.join(root, "tools", "wheel-libraries.sh"), library, archive, os.path.join(os.path.abspath(self.build_lib), "dpipe")], check=True)
        elif not there and not of_the_system() and not os.environ.get("DPIPE_WITHOUT_LIBRARY"):
            sys.exit(f"dpipe: no libdpipe to put into the package, and none on the system: run `make` in {root} first, install dpipe (`make install`, its .deb), "
                     "or set DPIPE_WITHOUT_LIBRARY=1 to install without it and name it in DPIPE_LIBRARY later")


class Platform(Distribution):
    def has_ext_modules(self):
        return there or taken


commands = {"build_py": WithLibraries}
try:
    try:
        from setuptools.command.bdist_wheel import bdist_wheel
    except ImportError:
        from wheel.bdist_wheel import bdist_wheel

    class AnyPython(bdist_wheel):
        def get_tag(self):
            return ("py3", "none", super().get_tag()[2])

    commands["bdist_wheel"] = AnyPython
except ImportError:  # only building a wheel needs it
    pass

setup(distclass=Platform, cmdclass=commands)
