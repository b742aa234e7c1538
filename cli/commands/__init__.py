"""The commands for people: models, chat, embeddings. Each is imported when it is asked for."""
