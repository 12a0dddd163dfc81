"""Numbers: numpy, torch and SimpleITK, never vtk, slicer or qt. No import here: modules are loaded on first use."""
