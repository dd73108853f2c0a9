"""The log engine on Apache Kafka: topics of one prefix, one fenced writer per partition, readers of what is committed.

Read in this order: ``topics`` (what there is), ``framing`` and ``messages`` (what stands in them), ``state`` and
``follower`` (what a handle knows), ``streams`` and ``records`` (reading chains), ``intake``, ``survey`` and
``beginning`` (what is seen to before the first record), ``writer`` (the transaction), ``engine`` (the port).
"""

from producers.engines.kafka.config import KafkaConfig
from producers.engines.kafka.engine import KafkaEngine

__all__ = ["KafkaConfig", "KafkaEngine"]
