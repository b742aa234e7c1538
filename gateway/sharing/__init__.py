"""Who is served next when generations wait: fair shares between keys, people before background."""
