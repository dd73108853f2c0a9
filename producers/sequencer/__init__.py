"""The one writer of a ledger: it takes signed commands, lets the deciders judge, seals records, appends them.

Read in this order: ``loop`` (the writer), ``ahead`` (deciding while a commit is under way), ``batch`` (one
micro-batch), ``seal`` (records), ``fold`` (what a chain's records add up to), ``recover`` (reading it back at start),
``snapshot``, ``timekeeper``, ``place``, ``lock``; ``process`` and ``standby`` where each partition of an intake has a
process of its own.
"""

from producers.sequencer.limits import Limits
from producers.sequencer.lock import SequencerLock
from producers.sequencer.loop import Sequencer

__all__ = ["Limits", "Sequencer", "SequencerLock"]
