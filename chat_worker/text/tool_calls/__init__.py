"""Tool calls in a model's text: found while it streams in, and grammars that force them.

Models write calls in a handful of forms, and small ones mix them up. All forms are therefore
looked for, whatever the model: a call counts only if it names a tool that the client offered, so
text that merely looks like one stays text.
"""
