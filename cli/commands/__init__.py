"""The commands for people: models, chat, embeddings. Each module is imported when it is asked for."""
