"""The API's paths, about ten lines each: parse, translate, call, render."""
