"""What the end-to-end tests are made of: real registries, real clients, and the program under test between them."""
