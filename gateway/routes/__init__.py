"""The paths of the API; a handler has about ten lines: parse, translate, call, render."""
