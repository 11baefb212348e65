"""Imports what requirements.txt names, and prints its versions as JSON."""

import importlib
import importlib.metadata
import json
import sys

found = {}
for name in sys.argv[1:]:
    importlib.import_module(name)
    found[name] = importlib.metadata.version(name)
print(json.dumps(found))
