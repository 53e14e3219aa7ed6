"""Imported first, so that a script of so many imports starts and ends in two thirds of the time.

Imports make millions of objects that stay; looking for garbage among them, again and again, costs a third of it.
"""

import atexit
import gc

gc.set_threshold(100_000, 50, 100)
atexit.register(gc.freeze)
