"""How processors get their events and send their intents; they themselves know nothing of it."""
