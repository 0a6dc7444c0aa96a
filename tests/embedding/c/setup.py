from setuptools import Extension, setup

import bpcore

setup(ext_modules=[Extension("embedding_c", ["embedding_c.c"], include_dirs=[bpcore.get_include()])])
