"""Chat models on OpenVINO's paged attention, with this project's own block tables."""
