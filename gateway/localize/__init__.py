"""What errors say in other languages than English."""
