"""Numbers: numpy, torch and SimpleITK, never vtk, slicer or qt. No import in this file: each module is loaded on first use."""
