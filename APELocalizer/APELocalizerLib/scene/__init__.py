"""MRML: nodes become core types, results become nodes. No Qt. No import in this file."""
