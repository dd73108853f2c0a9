"""The log engine on Apache Kafka."""
