from Cython.Build import cythonize
from setuptools import Extension, setup

setup(ext_modules=cythonize([Extension("embedding_cython", ["embedding_cython.pyx"])]))
