"""What is said: every command and event as a typed class, with the Avro schema it is written by."""
