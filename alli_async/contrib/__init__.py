"""Bridges to other libraries. Each module imports its library, which an extra of the same name installs."""
