from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup

import bpcore

setup(ext_modules=[Pybind11Extension("embedding_cpp", ["embedding_cpp.cpp"], include_dirs=[bpcore.get_include()])])
