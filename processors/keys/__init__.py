"""Key providers: who holds the key-encryption key, and gives each tenant its data-encryption key."""
