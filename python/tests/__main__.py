"""python -m tests: every test, then "N passed, N failed" as tests/run.sh reads it; skips are printed with their reason."""
import os
import sys
import unittest

here = os.path.dirname(os.path.abspath(__file__))
suite = unittest.defaultTestLoader.discover(here, top_level_dir=os.path.dirname(here))
result = unittest.TextTestRunner(verbosity=1).run(suite)
for test, why in result.skipped:
    print(f"skip {test.id().replace('unittest.loader.ModuleSkipped.', '')}: {why}")
bad = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
skipped = len(result.skipped)
print(f"{result.testsRun - bad - skipped} passed, {bad} failed" + (f", {skipped} skipped" if skipped else ""))
sys.exit(bad > 0)
