"""Which tokens may come next: grammars that an answer must follow, and limits of thinking."""
