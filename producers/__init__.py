"""Who may speak: command intake, deciders, sequencer, signer, log engines."""
