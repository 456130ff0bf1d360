"""Everything is in pyproject.toml but this: a wheel that carries libdpipe.so.0 is for one platform, and for every Python 3."""
import os

from setuptools import setup
from setuptools.dist import Distribution

carries = os.path.exists(os.path.join(os.path.dirname(os.path.abspath(__file__)), "dpipe", "libdpipe.so.0"))


class Platform(Distribution):
    def has_ext_modules(self):
        return carries


commands = {}
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
