"""A worker on Kafka: some of the ledger's chains at a time, with every processor but the trainer for each of them."""
