"""Two slices, checked together and given features that mean the same in both."""

__all__: list[str] = []
