"""Tool calls in a model's text: a filter that finds them in the stream, and grammars for them.

Models write calls in some twenty notations, and small models mix them up. The filter therefore
looks for all notations, whatever the model. A call counts only if it names a tool that the client
offered and its arguments follow that tool's schema; text that only looks like a call stays text.
"""
