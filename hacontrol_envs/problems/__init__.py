"""One file, one problem. Importing this package imports every module in it, and each registers its problem."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
