"""The scripts beside this directory as modules: they have no `.py` in their names."""

import importlib.machinery
import importlib.util
import pathlib
import types

TESTS = pathlib.Path(__file__).resolve().parent.parent


def load(name: str) -> types.ModuleType:
    """That script, not run."""
    loader = importlib.machinery.SourceFileLoader(f"ggr_{name}", str(TESTS / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module
