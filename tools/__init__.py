"""What keeps the course in order: notebooks, book, browser test. The library imports none of it."""
