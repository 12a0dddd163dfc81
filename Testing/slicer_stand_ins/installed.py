"""Importing this module puts the stand-ins in place and keeps Qt off the screen."""

import ctypes
import os
import sys

import slicer_stand_ins

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("QT_LOGGING_RULES", "qt.qpa.*=false")
if sys.version_info < (3, 12):
    # PySide6 6.12 takes these for immortal, as they are from Python 3.12 on: each `emit` loses a reference to True.
    for constant in (None, True, False):
        ctypes.c_ssize_t.from_address(id(constant)).value += 1 << 30
slicer_stand_ins.install()
