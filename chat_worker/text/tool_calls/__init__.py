"""Tool calls in a model's text: found while it streams in, and grammars that hold them.

Models write calls in some twenty forms, and small ones mix them up. All forms are therefore looked
for, whatever the model. A call counts only if it names a tool that the client offered and its
arguments follow that tool's schema; text that merely looks like a call stays text, untouched.
"""
